"""Split rows into training, validation and test set, and into folds for cross-validation.

Rows that are near duplicates have the same group (`text/near_duplicates.py`), and a group is never
divided: otherwise the test set measures what the model has memorized. Labels are stratified.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from groundup.base.errors import UsageError

How = Literal["grouped", "random", "given"]
"""grouped: near duplicates are kept together; random: rows are drawn one by one; given: the sets
are separate files, or named in a column."""


@dataclass(frozen=True)
class Split:
    """Row numbers of the training, validation and test set."""

    train: list[int]
    validation: list[int]
    test: list[int]
    how: How = "grouped"


def split(
    labels: Sequence[str] | None,
    groups: Sequence[int],
    *,
    test_frac: float,
    validation_frac: float,
    seed: int,
    how: How = "grouped",
) -> Split:
    """Split rows into three sets, stratified by label.

    Args:
        labels: The label of each row. None: rows have none.
        groups: The group of each row; with `how="random"` only their number counts.
        test_frac: Fraction of the rows in the test set.
        validation_frac: Fraction of the rows in the validation set. 0: it is empty.
        seed: Random seed.
        how: Whether groups are kept together.

    Raises:
        UsageError: There are too few groups for the sets.

    >>> found = split(["a", "b"] * 10, [*range(18), 0, 1], test_frac=0.2, validation_frac=0.1,
    ...               seed=0)
    >>> len(found.train), len(found.validation), len(found.test)
    (14, 2, 4)
    """
    assert how != "given"
    units = list(range(len(groups))) if how == "random" else list(groups)
    n_sets = 2 + (validation_frac > 0)
    if len(set(units)) < n_sets:
        raise UsageError(
            f"The {len(units)} rows form {len(set(units))} groups of near duplicates. At least "
            f"{n_sets} groups are expected, so that each set has one."
        )
    strata = [""] * len(units) if labels is None else list(labels)
    fractions = [test_frac, validation_frac, 1 - test_frac - validation_frac]
    targets = _targets(strata, fractions, n_held_out=2)
    place = _assign(strata, units, targets, np.random.default_rng(seed))
    test, validation, train = (np.flatnonzero(place == k).tolist() for k in range(3))
    return Split(train, validation, test, how)


def require_sets(found: Split, *, validation: bool) -> Split:
    """Return a split in which no set is empty, as a few large groups may leave one.

    Args:
        found: The split.
        validation: Whether rows to validate on are needed, too.

    Raises:
        UsageError: A set that is needed is empty.
    """
    sets = {"training": found.train, "test": found.test}
    if validation:
        sets["validation"] = found.validation
    if empty := [name for name, rows in sets.items() if not rows]:
        n = sum(map(len, (found.train, found.validation, found.test)))
        raise UsageError(
            f"The groups of near duplicates among the {n} rows are so large that the "
            f"{empty[0]} set is empty. More different rows, or a random split, are expected."
        )
    return found


def folds(
    labels: Sequence[str] | None, groups: Sequence[int], n_folds: int, seed: int
) -> list[list[int]]:
    """Divide rows into folds of nearly equal size, stratified by label; groups stay together.

    Returns:
        The row numbers of each fold.

    Raises:
        UsageError: There are fewer groups than folds.
    """
    if len(set(groups)) < n_folds:
        raise UsageError(
            f"The {len(groups)} rows form {len(set(groups))} groups of near duplicates. At least "
            f"{n_folds} groups are expected for {n_folds} folds."
        )
    strata = [""] * len(groups) if labels is None else list(labels)
    targets = _targets(strata, [1 / n_folds] * n_folds, n_held_out=0)
    place = _assign(strata, groups, targets, np.random.default_rng(seed))
    return [np.flatnonzero(place == k).tolist() for k in range(n_folds)]


def book_split(labels: Sequence[str], *, seed: int = 123) -> Split:
    """Balance the classes and split 70 : 10 : 20, exactly as chapter 6 of the book.

    The larger class is undersampled to the size of the smaller one. The draws are those of
    `DataFrame.sample(random_state=seed)` of pandas, in the order of the book's data frame.

    Source: Raschka (2024), "Build a Large Language Model (From Scratch)", section 6.2.

    Raises:
        UsageError: There are not exactly two classes.
    """
    rows: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    if len(rows) != 2:
        raise UsageError(f"The number of classes is {len(rows)}. The book's split expects two.")
    larger, smaller = sorted(rows.values(), key=len, reverse=True)
    drawn = np.random.RandomState(seed).choice(len(larger), size=len(smaller), replace=False)
    balanced = np.array([*(larger[i] for i in drawn), *smaller])
    n = len(balanced)
    shuffled = balanced[np.random.RandomState(seed).choice(n, size=n, replace=False)].tolist()
    n_train, n_validation = int(n * 0.7), int(n * 0.1)
    return Split(
        shuffled[:n_train],
        shuffled[n_train : n_train + n_validation],
        shuffled[n_train + n_validation :],
        "random",
    )


def book_order(n_rows: int) -> Split:
    """Split rows 85 : 5 : 10 in the order of the file, exactly as chapter 7 of the book.

    The test set comes before the validation set.

    Source: Raschka (2024), "Build a Large Language Model (From Scratch)", section 7.2.
    """
    rows = list(range(n_rows))
    n_train, n_test = int(n_rows * 0.85), int(n_rows * 0.1)
    test = rows[n_train : n_train + n_test]
    return Split(rows[:n_train], rows[n_train + n_test :], test, "random")


def given_split(parts: Sequence[str]) -> Split:
    """Split rows by the name of their set: train, validation or test."""
    train, validation, test = (
        [row for row, part in enumerate(parts) if part == name]
        for name in ("train", "validation", "test")
    )
    return Split(train, validation, test, "given")


def _targets(
    labels: Sequence[str], fractions: Sequence[float], n_held_out: int
) -> NDArray[np.float64]:
    """Return how many rows of each label each set should have, (sets, labels).

    The first sets are held out: they get at least one row of a label that has enough of them.
    """
    _, totals = np.unique(np.array(labels, dtype=object), return_counts=True)
    targets = np.outer(fractions, totals)
    for k in range(n_held_out):
        too_few = np.where((targets[k] < 1) & (totals > k + 1) & (fractions[k] > 0))[0]
        targets[-1, too_few] -= 1 - targets[k, too_few]
        targets[k, too_few] = 1
    return targets


def _assign(
    labels: Sequence[str],
    groups: Sequence[int],
    targets: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Give each row a set, so that each set has nearly its target of every label.

    Groups are placed in random order, the largest first, so that small ones even out what large
    ones disturb. Each goes where the sum of (rows - target)^2 / target grows least.
    """
    _, label = np.unique(np.array(labels, dtype=object), return_inverse=True)
    names, group = np.unique(np.array(groups, dtype=np.int64), return_inverse=True)
    # (group, label) pairs that occur, by group, and how often: most groups have few labels.
    pairs, counts = np.unique(group * targets.shape[1] + label, return_counts=True)
    starts = np.searchsorted(pairs, np.arange(len(names) + 1) * targets.shape[1])
    order = rng.permutation(len(names))
    order = order[np.argsort(-np.bincount(group)[order], kind="stable")]
    is_used = targets.sum(axis=1) > 0
    weight = 1 / np.maximum(targets, 1e-9)
    missing = targets.copy()
    place = np.empty(len(names), dtype=np.int64)
    for g in order:
        part = slice(starts[g], starts[g + 1])
        own, n = pairs[part] % targets.shape[1], counts[part]
        cost = ((n - 2 * missing[:, own]) * n * weight[:, own]).sum(axis=1)
        place[g] = best = int(np.argmin(np.where(is_used, cost, np.inf)))
        missing[best, own] -= n
    return place[group]
