"""The scores of a classifier on a test set: the log loss first, then what follows from it.

Log loss separates good classifiers best: where two of them have the same accuracy, one may still
be much surer of its correct predictions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from groundup.evaluation.intervals import Share, wilson
from groundup.finetune.classify.calibration import losses


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The scores on some rows."""

    n: int
    log_loss_nats: float
    """Mean of -ln(probability of the true class)."""
    accuracy: Share
    balanced_accuracy: float
    """Mean recall of the classes that occur."""
    auc: float | None
    """Area under the ROC curve; of more than two classes the mean over all pairs of one class and
    the rest. None: only one class occurs."""
    average_precision: float | None
    """Area under the precision-recall curve of the rarest class; of more than two classes the mean
    over the classes."""
    f1: dict[str, float] = field(default_factory=dict)
    """F1 of each class."""


def score(
    probabilities: Float[np.ndarray, "N K"],
    labels: Sequence[int],
    names: Sequence[str],
    *,
    positive: int,
) -> Scores | None:
    """Compute the scores of some rows; None if there are no rows.

    Args:
        probabilities: The probability of each class.
        labels: The true classes.
        names: The names of the classes.
        positive: Of two classes the one that the average precision is about.
    """
    from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

    if not len(labels):
        return None
    truth = np.asarray(labels)
    predicted = probabilities.argmax(axis=1)
    occurring = sorted(set(labels))
    recalls = [float((predicted[truth == k] == k).mean()) for k in occurring]
    auc = precision = None
    if len(occurring) > 1:
        judged = [positive] if len(names) == 2 else occurring
        of_class = [(truth == k, probabilities[:, k]) for k in judged]
        auc = float(np.mean([roc_auc_score(is_k, p) for is_k, p in of_class]))
        precision = float(np.mean([average_precision_score(is_k, p) for is_k, p in of_class]))
    f1 = f1_score(truth, predicted, labels=list(range(len(names))), average=None, zero_division=0.0)
    return Scores(
        n=len(truth),
        log_loss_nats=float(losses(probabilities, labels).mean()),
        accuracy=wilson(int((predicted == truth).sum()), len(truth)),
        balanced_accuracy=float(np.mean(recalls)),
        auc=auc,
        average_precision=precision,
        f1={name: float(value) for name, value in zip(names, f1, strict=True)},
    )
