"""Confidence intervals of means and of differences, for models scored on the same items.

Two models answer the same items, so their scores are compared item by item: what makes an item
hard cancels out, and a difference needs far fewer items than two separate intervals suggest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from groundup.base.errors import UserError

Scores = Sequence[float] | Sequence[int] | Sequence[bool] | NDArray[Any]
"""One score per item."""
MIN_ITEMS = 30
"""Fewer items are too few to compare two models."""
_CHUNK = 2**22
"""Scores resampled at once: 32 MiB, however many items there are."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float
    n: int
    """Number of values."""


@dataclass(frozen=True, kw_only=True)
class Difference(Interval):
    """The mean difference of paired scores with its confidence interval."""

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0.

        >>> Difference(mean=0.1, low=-0.1, high=0.3, n=50).is_clear
        False
        """
        return not self.low <= 0 <= self.high


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """The exact McNemar test on items that are either right or wrong."""

    n_only_a: int
    """Number of items that only the first model has right."""
    n_only_b: int
    """Number of items that only the second model has right."""
    p_value: float
    """Two-sided: the probability of a split at least as uneven between equally good models."""


def bootstrap(
    values: Scores,
    *,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Compute the mean and its percentile bootstrap interval.

    Args:
        values: One score per item.
        confidence: The probability that the interval covers.
        n_resamples: Number of samples drawn with replacement.
        seed: The random seed.

    Raises:
        UserError: There are no values, or one of them is not finite.

    Source: "An Introduction to the Bootstrap" (Efron and Tibshirani, 1993), section 13.3.

    >>> bootstrap([1.0, 1.0, 1.0])
    Interval(mean=1.0, low=1.0, high=1.0, n=3)
    """
    scores = _scores(values)
    n = len(scores)
    generator = np.random.default_rng(seed)
    means = np.empty(n_resamples)
    step = max(1, _CHUNK // n)
    for start in range(0, n_resamples, step):
        stop = min(start + step, n_resamples)
        means[start:stop] = scores[generator.integers(n, size=(stop - start, n))].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean=float(scores.mean()), low=float(low), high=float(high), n=n)


def paired_bootstrap(
    a: Scores,
    b: Scores,
    *,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """Compute the mean of a - b and its percentile bootstrap interval, resampling items.

    Args:
        a: The scores of the first model.
        b: The scores of the second model on the same items, in the same order.
        confidence: The probability that the interval covers.
        n_resamples: Number of samples drawn with replacement.
        seed: The random seed.

    Raises:
        UserError: The numbers of scores differ, there are none, or one is not finite.

    >>> paired_bootstrap([1.0, 0.5], [0.5, 0.0]).is_clear
    True
    """
    _same_items(len(a), len(b))
    found = bootstrap(
        _scores(a) - _scores(b), confidence=confidence, n_resamples=n_resamples, seed=seed
    )
    return Difference(mean=found.mean, low=found.low, high=found.high, n=found.n)


def mcnemar(a_right: Scores, b_right: Scores) -> McNemar:
    """Test whether two models are right equally often, from the items on which they differ.

    Args:
        a_right: Whether the first model is right, for each item.
        b_right: Whether the second model is right, for the same items in the same order.

    Raises:
        UserError: The numbers of items differ, or there are none.

    Source: "Note on the sampling error of the difference between correlated proportions or
    percentages" (McNemar, 1947), with the exact binomial distribution.

    >>> mcnemar([True] * 8 + [False] * 25, [False] * 33)
    McNemar(n_only_a=8, n_only_b=0, p_value=0.0078125)
    """
    _same_items(len(a_right), len(b_right))
    a, b = _scores(a_right) != 0, _scores(b_right) != 0
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    if only_a + only_b == 0:
        return McNemar(n_only_a=0, n_only_b=0, p_value=1.0)
    from scipy.stats import binomtest  # takes half a second to import

    p_value = float(binomtest(only_a, only_a + only_b).pvalue)
    return McNemar(n_only_a=only_a, n_only_b=only_b, p_value=p_value)


def require_items(n: int, what: str = "items") -> None:
    """Refuse a comparison on fewer than `MIN_ITEMS` items.

    Args:
        n: The number of items.
        what: What the items are, in the plural.

    Raises:
        UserError: There are too few.
    """
    if n < MIN_ITEMS:
        raise UserError(
            f"There are {n} {what}, which are too few to compare. At least {MIN_ITEMS} are "
            "expected."
        )


def _scores(values: Scores) -> Float[np.ndarray, " n"]:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
        raise UserError("A list of at least one finite number is expected, one per item.")
    return scores


def _same_items(n_a: int, n_b: int) -> None:
    if n_a != n_b:
        raise UserError(
            f"There are {n_a} scores of one model and {n_b} of the other. Scores of the same "
            "items in the same order are expected."
        )
