"""The frozen recipe: logistic regression on the hidden states of a model that is not trained.

Each feature is standardized; the result is folded into one linear head over the hidden states, so
that a frozen classifier is used and saved like a tuned one.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from groundup.finetune.classify.config import Balance

N_ITERATIONS = 2000
"""The solver stops long before this on standardized features."""


def fit_head(
    features: Float[np.ndarray, "N P"],
    labels: Sequence[int],
    n_classes: int,
    *,
    C: float,
    balance: Balance = "none",
) -> nn.Linear:
    """Fit scikit-learn's logistic regression to standardized features, as a float64 head.

    Args:
        features: Pooled hidden states of the training texts.
        labels: Their classes.
        n_classes: Number of classes; each must occur.
        C: Inverse of the regularization strength.
        balance: "weighted": every class has the same total weight.
    """
    # Deferred: importing scikit-learn takes a second.
    from sklearn.linear_model import LogisticRegression

    values = features.astype(np.float64)
    mean, scale = values.mean(axis=0), values.std(axis=0)
    scale[scale < 1e-12 * max(1.0, np.abs(values).max())] = 1.0  # a constant feature says nothing
    model = LogisticRegression(
        C=C, max_iter=N_ITERATIONS, class_weight="balanced" if balance == "weighted" else None
    )
    model.fit((values - mean) / scale, np.asarray(labels))
    assert len(model.classes_) == n_classes
    weight, bias = model.coef_ / scale, model.intercept_
    bias = bias - weight @ mean
    if n_classes == 2:  # one row of coefficients: the log odds of class 1
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    head = nn.Linear(weight.shape[1], n_classes, dtype=torch.float64)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
    return head


@torch.inference_mode()
def head_probabilities(
    head: nn.Linear, features: Float[np.ndarray, "N P"]
) -> Float[np.ndarray, "N K"]:
    """Compute the probability of each class from pooled hidden states."""
    pooled = torch.from_numpy(features).to(head.weight)
    found: Float[np.ndarray, "N K"] = head(pooled).double().softmax(dim=1).cpu().numpy()
    return found


def undersample(rows: Sequence[int], labels: Sequence[str], seed: int) -> list[int]:
    """Draw as many rows of every class as the smallest class has, in their order.

    >>> undersample([0, 1, 2, 3], ["a", "a", "a", "b"], seed=0)
    [2, 3]
    """
    counts = Counter(labels[row] for row in rows)
    rng = np.random.default_rng(seed)
    kept: list[int] = []
    for name in sorted(counts):
        of_class = [row for row in rows if labels[row] == name]
        drawn = rng.choice(len(of_class), size=min(counts.values()), replace=False)
        kept += [of_class[i] for i in drawn]
    return sorted(kept)
