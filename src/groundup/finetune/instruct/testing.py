"""One training of an assistant, and its tests before and after; a resumed run keeps them."""

import dataclasses
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from groundup.base.device import choose_dtype
from groundup.base.duration import parse_duration_s
from groundup.base.errors import UserError
from groundup.base.files import read_json, write_json
from groundup.base.run import RunFolder
from groundup.evaluation.load import LanguageModel
from groundup.finetune.batches import Row
from groundup.finetune.instruct import baselines
from groundup.finetune.instruct.config import InstructConfig
from groundup.finetune.instruct.evaluation import (
    Evaluation,
    OnAnswer,
    answer_and_score,
    untuned_answers,
)
from groundup.finetune.instruct.examples import Examples
from groundup.finetune.instruct.tuning import Tuned, job_of, plain_rows, tune_assistant
from groundup.finetune.job import FineTuning
from groundup.finetune.training import OnStep, mean_loss
from groundup.model.gpt import GPT
from groundup.train.curve_checks import Finding
from groundup.train.precision import MixedPrecision

_N_PROBED = 16
"""Test records that are answered to estimate the time of all."""
ANSWERS, UNTUNED_ANSWERS, _LOSSES = "answers.jsonl", "untuned.jsonl", "losses.json"


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """What is called while an assistant is trained and tested."""

    on_step: OnStep | None = None
    on_answer: OnAnswer | None = None
    on_finding: Callable[[Finding], None] | None = None
    on_fold: Callable[[int, int], None] | None = None
    """Called with the number of a fold, from 1, and how many there are."""


@dataclass(frozen=True, kw_only=True)
class Tested:
    """The scores of test items, and the loss on their answers before and after."""

    evaluation: Evaluation
    loss_before_nats: float
    loss_after_nats: float
    n_targets: int


@dataclass(frozen=True, kw_only=True)
class Before:
    """The scores and the loss before fine-tuning."""

    evaluation: Evaluation
    loss_nats: float
    elapsed_s: float
    """How long the tests took. Those after training do not take longer."""


def answer_loss(model: GPT, rows: Sequence[Row], config: InstructConfig) -> float:
    """Measure the mean loss on answers in nats/token, in the number format of the training."""
    mixed = MixedPrecision(model, choose_dtype(config.dtype, model.device))
    return mixed.run(lambda _: mean_loss(model, rows))


def answer_bits(model: GPT, examples: Examples, config: InstructConfig) -> dict[str, float]:
    """Measure the bits per answer token for each kind of test record, and for all."""
    kinds = list(dict.fromkeys(item.kind for item in examples.items))
    rows = {
        kind: [
            row
            for item, row in zip(examples.items, examples.test_rows, strict=True)
            if item.kind == kind
        ]
        for kind in kinds
    }
    rows["all"] = examples.test_rows
    return {kind: answer_loss(model, some, config) / math.log(2) for kind, some in rows.items()}


def estimate_tests_s(
    foundation: LanguageModel,
    examples: Examples,
    config: InstructConfig,
    *,
    with_baselines: bool,
) -> tuple[float, float]:
    """Estimate the seconds of the tests before and after training from the answers to some items.

    More answers at once take less time each, so it is rather too high for many items.
    """
    assert config.max_new_tokens is not None
    n_items = len(examples.items)
    some = examples.items[:: math.ceil(n_items / _N_PROBED)]
    began_at = time.monotonic()
    answers = untuned_answers(
        foundation,
        some,
        examples.training,
        config.max_new_tokens,
        with_baselines=with_baselines,
        shots=config.shots,
    )
    before_s = (time.monotonic() - began_at) * n_items / len(some)
    n_generated = 1 + (baselines.few_shot(config.shots) in answers)
    return before_s, before_s / n_generated


def check_time_for_tests(
    config: InstructConfig, n_items: int, tests_s: tuple[float, float], started_at: float
) -> None:
    """Refuse a budget that the tests alone would use up.

    Raises:
        UserError: They would.
    """
    assert config.budget is not None
    needed_s = time.monotonic() - started_at + sum(tests_s)
    if needed_s >= parse_duration_s(config.budget, "budget"):
        raise UserError(
            f"The tests of {n_items:,} records before and after training take about "
            f"{sum(tests_s):.0f} s, and the budget is {config.budget}. A longer budget, or fewer "
            "test records (max_test), is expected.",
            settings={"budget": f"{math.ceil(2 * needed_s / 60)}m"},
        )


def measure_before(
    foundation: LanguageModel,
    examples: Examples,
    config: InstructConfig,
    folder: Path,
    callbacks: Callbacks,
    *,
    with_baselines: bool,
) -> Before:
    """Test the model before fine-tuning; a resumed run reads the answers of the first call."""
    began_at = time.monotonic()
    path = folder / "evaluation" / UNTUNED_ANSWERS
    evaluation = Evaluation.read(path, examples.items)
    if evaluation is None:
        assert config.max_new_tokens is not None
        answers = untuned_answers(
            foundation,
            examples.items,
            examples.training,
            config.max_new_tokens,
            with_baselines=with_baselines,
            shots=config.shots,
            on_answer=callbacks.on_answer,
        )
        evaluation = Evaluation(items=examples.items, answers=answers)
        evaluation.write(path)
    return Before(
        evaluation=evaluation,
        loss_nats=answer_loss(foundation.model, examples.test_rows, config),
        elapsed_s=time.monotonic() - began_at,
    )


def measure_after(
    assistant: LanguageModel,
    before: Before,
    config: InstructConfig,
    callbacks: Callbacks,
) -> Evaluation:
    """Answer the test items after fine-tuning, beside the answers from before."""
    assert config.max_new_tokens is not None
    items = before.evaluation.items
    answers = answer_and_score(
        assistant,
        items,
        config.max_new_tokens,
        name=baselines.TUNED,
        on_answer=callbacks.on_answer,
    )
    assert answers is not None  # every test row fits the context, and so does its prompt
    found = {**before.evaluation.answers, baselines.TUNED: answers}
    return Evaluation(items=items, answers=found)


def tune(
    foundation: LanguageModel,
    examples: Examples,
    config: InstructConfig,
    run: RunFolder,
    callbacks: Callbacks,
    *,
    after_s: float = 0.0,
    started_at: float | None = None,
) -> Tuned:
    """Train on the examples, and on plain text if the settings say so."""
    job = training_job(foundation, examples, config, after_s=after_s, started_at=started_at)
    return tune_assistant(job, run, on_step=callbacks.on_step, on_finding=callbacks.on_finding)


def training_job(
    foundation: LanguageModel,
    examples: Examples,
    config: InstructConfig,
    *,
    after_s: float | int = 0.0,
    started_at: float | None = None,
) -> FineTuning:
    """Describe the training of the examples to the trainer."""
    T = foundation.model.config.context_length
    plain = plain_rows(config, foundation.tokenizer, T, len(examples.rows))
    return job_of(
        foundation,
        [*examples.rows, *plain],
        examples.validation_rows,
        config,
        after_s=after_s,
        started_at=started_at,
    )


def cross_validate(
    foundation: LanguageModel,
    folds: Sequence[Examples],
    config: InstructConfig,
    folder: Path,
    callbacks: Callbacks,
) -> Tested:
    """Train once for each fold, on all records outside it, and test on the fold.

    A fold that was tested is read from its folder, so that a resumed run does not repeat it.
    """
    tests = []
    config = dataclasses.replace(config, budget=None)
    for number, examples in enumerate(folds, 1):
        if callbacks.on_fold is not None:
            callbacks.on_fold(number, len(folds))
        run = RunFolder(folder / "folds" / f"fold-{number}")
        run.path.mkdir(parents=True, exist_ok=True)
        tests.append(_test_fold(foundation, examples, config, run, callbacks))
    n_targets = sum(test.n_targets for test in tests)
    evaluation = Evaluation()
    for test in tests:
        evaluation = evaluation.joined(test.evaluation)
    return Tested(
        evaluation=evaluation,
        loss_before_nats=sum(t.loss_before_nats * t.n_targets for t in tests) / n_targets,
        loss_after_nats=sum(t.loss_after_nats * t.n_targets for t in tests) / n_targets,
        n_targets=n_targets,
    )


def _test_fold(
    foundation: LanguageModel,
    examples: Examples,
    config: InstructConfig,
    run: RunFolder,
    callbacks: Callbacks,
) -> Tested:
    answers, losses = run.path / "evaluation" / ANSWERS, run.path / "evaluation" / _LOSSES
    n_targets = sum(target >= 0 for _, targets in examples.test_rows for target in targets)
    evaluation = Evaluation.read(answers, examples.items)
    if evaluation is not None and losses.is_file():
        return Tested(evaluation=evaluation, n_targets=n_targets, **read_json(losses))
    before = measure_before(
        foundation, examples, config, run.path, callbacks, with_baselines=config.baselines
    )
    model = tune(foundation, examples, config, run, callbacks).model
    assistant = dataclasses.replace(foundation, model=model)
    evaluation = measure_after(assistant, before, config, callbacks)
    found = {
        "loss_before_nats": before.loss_nats,
        "loss_after_nats": answer_loss(model, examples.test_rows, config),
    }
    write_json(losses, found)
    evaluation.write(answers)
    shutil.rmtree(run.checkpoints_path, ignore_errors=True)  # nobody needs the model of a fold
    return Tested(evaluation=evaluation, n_targets=n_targets, **found)
