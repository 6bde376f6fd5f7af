"""Score models on the same test rows, and compare them row by row."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from groundup.evaluation.paired import MIN_ITEMS, paired_bootstrap
from groundup.finetune.classify.calibration import (
    Calibration,
    apply_temperature,
    calibrate,
    losses,
)
from groundup.finetune.classify.examples import Examples
from groundup.finetune.classify.metrics import score
from groundup.finetune.classify.result import Comparison, ModelScores


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The calibrated probabilities of one model on the test set."""

    name: str
    test: Float[np.ndarray, "N K"]
    cpu_s: float
    calibration: Calibration | None = None


def measured(
    name: str,
    validation: Float[np.ndarray, "M K"] | None,
    test: Float[np.ndarray, "N K"],
    examples: Examples,
    cpu_s: float,
) -> Measured:
    """Calibrate a model on the validation set, if there is one, and apply that to the test set."""
    if validation is None:
        return Measured(name=name, test=test, cpu_s=cpu_s)
    found = calibrate(validation, examples.targets_of(examples.split.validation))
    return Measured(
        name=name,
        test=apply_temperature(test, found.temperature),
        cpu_s=cpu_s,
        calibration=found,
    )


def average(name: str, models: Sequence[Measured]) -> Measured:
    """Average the probabilities of models."""
    mean = np.mean([model.test for model in models], axis=0)
    return Measured(name=name, test=mean, cpu_s=sum(model.cpu_s for model in models))


def scores_of(model: Measured, examples: Examples) -> ModelScores:
    """Score a model on all test rows, and on those without a near duplicate in training."""
    labels = examples.targets_of(examples.split.test)
    is_new = ~np.array(examples.has_near, dtype=bool)
    new_labels = [label for label, new in zip(labels, is_new, strict=True) if new]
    found = score(model.test, labels, examples.names, positive=examples.rarest)
    assert found is not None, "the test set has rows"
    return ModelScores(
        name=model.name,
        all=found,
        no_near=score(model.test[is_new], new_labels, examples.names, positive=examples.rarest),
        cpu_s=model.cpu_s,
        calibration=model.calibration,
    )


def compare(model: Measured, other: Measured, examples: Examples) -> Comparison:
    """Compare two models row by row, with intervals from a paired bootstrap."""
    labels = examples.targets_of(examples.split.test)
    is_new = ~np.array(examples.has_near, dtype=bool)
    both = [losses(m.test, labels) for m in (model, other)]
    right = [m.test.argmax(axis=1) == np.asarray(labels) for m in (model, other)]
    has_enough = is_new.sum() >= MIN_ITEMS
    new = paired_bootstrap(both[0][is_new], both[1][is_new]) if has_enough else None
    return Comparison(
        model=model.name,
        other=other.name,
        log_loss_nats=paired_bootstrap(both[0], both[1]),
        accuracy=paired_bootstrap(right[0], right[1]),
        no_near_log_loss_nats=new,
    )
