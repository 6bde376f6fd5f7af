"""Audit rows before they are trained on: duplicates within and across sets, labels, lengths."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from groundup.records.splits import Split
from groundup.records.splits import split as draw
from groundup.text.near_duplicates import (
    TEXT_RULE,
    Groups,
    Rule,
    group_near_duplicates,
    near_references,
)

_PERCENTILES = (50, 90, 99, 100)


@dataclass(frozen=True, kw_only=True)
class NearPair:
    """Two rows that are near duplicates or equal."""

    first: int
    """Row number of the earlier one, or of the one in the other sets."""
    second: int
    jaccard: float


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Rows of a set that also occur in sets that are trained on or chosen by."""

    name: str
    others: tuple[str, ...]
    n_rows: int
    n_exact: int
    """Rows with an equal text in the other sets."""
    near: list[NearPair]
    """Rows of the set (`second`) with a near duplicate (`first`), exact ones included."""
    near_labels: dict[str, int]
    """How many of these rows each label has."""

    @property
    def n_near(self) -> int:
        """Rows with a near duplicate in the other sets, exact ones included."""
        return len(self.near)


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Percentiles of the lengths of rows in one unit."""

    unit: str
    mean: float
    percentiles: dict[int, int]
    """50: the median; 100: the maximum."""


@dataclass(frozen=True, kw_only=True)
class RowAudit:
    """What an audit found."""

    n_rows: int
    rule: Rule
    groups: Groups
    n_near_repeats: int
    """Rows with an equal or near-duplicate row before them: rows less groups."""
    overlaps: list[Overlap] = field(default_factory=list)
    """Of the validation set with training; of the test set with training, and with both."""
    random_overlap: Overlap | None = None
    """Of the test set with the training set, in a random split. None: not measured."""
    conflicts: list[NearPair] = field(default_factory=list)
    """Near duplicates with different labels."""
    empty: list[int] = field(default_factory=list)
    """Rows without text."""
    lengths: list[Lengths] = field(default_factory=list)
    label_counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Rows of each label: in all rows ("rows"), in groups ("groups"), and in each set."""
    equal_answers: list[int] | None = None
    """Preference pairs whose two answers are equal. None: the rows are no pairs."""
    max_tokens: int | None = None
    too_long: list[int] | None = None
    """Rows of more than `max_tokens` tokens. None: the tokens were not counted."""


def audit_rows(
    texts: Sequence[str],
    labels: Sequence[str] | None = None,
    *,
    split: Split | None = None,
    random_test_frac: float | None = None,
    rule: Rule = TEXT_RULE,
    answers: Sequence[tuple[str, str]] | None = None,
    n_tokens: Sequence[int] | None = None,
    max_tokens: int | None = None,
) -> RowAudit:
    """Audit rows.

    Args:
        texts: The text of each row; of conversations and pairs, the prompt.
        labels: The label of each row.
        split: The sets of the rows. None: they are not compared.
        random_test_frac: Fraction of the rows in the test set of a random split, which is compared
            with the other rows. None: none is drawn.
        rule: Which texts are near duplicates.
        answers: The chosen and the rejected answer of each row, if the rows are pairs.
        n_tokens: Number of tokens of each row. None: unknown.
        max_tokens: The most tokens that the model reads.

    >>> audit = audit_rows(["Win 100 now", "win 999 now!", "Hello"], ["spam", "ham", "ham"])
    >>> audit.n_near_repeats, [(c.first, c.second) for c in audit.conflicts]
    (1, [(0, 1)])
    """
    groups = group_near_duplicates(texts, rule)
    sets = {} if split is None else _sets(split)
    drawn = None
    if random_test_frac is not None and 1 < groups.n_groups < len(texts):
        random = draw(
            labels,
            groups.group,
            test_frac=random_test_frac,
            validation_frac=0.0,
            seed=0,
            how="random",
        )
        drawn = _overlap(texts, labels, _sets(random), "test", ["train"], rule)
    conflicts = [
        NearPair(first=i, second=j, jaccard=jaccard)
        for i, j, jaccard in groups.pairs
        if labels is not None and labels[i] != labels[j]
    ]
    sizes: dict[str, Sequence[int]] = {
        "characters": [len(text) for text in texts],
        "words": [len(text.split()) for text in texts],
    }
    if n_tokens is not None:
        sizes["tokens"] = n_tokens
    return RowAudit(
        n_rows=len(texts),
        rule=rule,
        groups=groups,
        n_near_repeats=len(texts) - groups.n_groups,
        overlaps=_overlaps(texts, labels, sets, rule),
        random_overlap=drawn,
        conflicts=conflicts,
        empty=[row for row, text in enumerate(texts) if not text.strip()],
        lengths=[_lengths(unit, values) for unit, values in sizes.items() if texts],
        label_counts={} if labels is None else _label_counts(labels, groups, sets),
        equal_answers=None
        if answers is None
        else [k for k, (a, b) in enumerate(answers) if a == b],
        max_tokens=max_tokens,
        too_long=None
        if n_tokens is None or max_tokens is None
        else [row for row, n in enumerate(n_tokens) if n > max_tokens],
    )


def _sets(split: Split) -> dict[str, list[int]]:
    sets = {"train": split.train, "validation": split.validation, "test": split.test}
    return {name: rows for name, rows in sets.items() if rows}


def _overlaps(
    texts: Sequence[str],
    labels: Sequence[str] | None,
    sets: dict[str, list[int]],
    rule: Rule,
) -> list[Overlap]:
    compared = [("validation", ["train"]), ("test", ["train"]), ("test", ["train", "validation"])]
    return [
        _overlap(texts, labels, sets, name, others, rule)
        for name, others in compared
        if {name, *others} <= sets.keys()
    ]


def _overlap(
    texts: Sequence[str],
    labels: Sequence[str] | None,
    sets: dict[str, list[int]],
    name: str,
    others: list[str],
    rule: Rule,
) -> Overlap:
    rows, before = sets[name], [row for other in others for row in sets[other]]
    known = {texts[row] for row in before}
    near = near_references([texts[row] for row in rows], [texts[row] for row in before], rule)
    pairs = [
        NearPair(first=before[found[0]], second=row, jaccard=found[1])
        for row, found in zip(rows, near, strict=True)
        if found is not None
    ]
    counted = Counter(labels[pair.second] for pair in pairs) if labels is not None else {}
    return Overlap(
        name=name,
        others=tuple(others),
        n_rows=len(rows),
        n_exact=sum(texts[row] in known for row in rows),
        near=pairs,
        near_labels=dict(counted),
    )


def _lengths(unit: str, sizes: Sequence[int]) -> Lengths:
    values = np.percentile(sizes, _PERCENTILES, method="higher").tolist()
    return Lengths(
        unit=unit,
        mean=float(np.mean(sizes)),
        percentiles={p: int(value) for p, value in zip(_PERCENTILES, values, strict=True)},
    )


def _label_counts(
    labels: Sequence[str], groups: Groups, sets: dict[str, list[int]]
) -> dict[str, dict[str, int]]:
    """Count the rows and the groups of each label; the most frequent label is first."""
    in_groups = Counter(label for _, label in set(zip(groups.group, labels, strict=True)))
    in_sets = {name: Counter(labels[row] for row in rows) for name, rows in sets.items()}
    return {
        label: {
            "rows": n,
            "groups": in_groups[label],
            **{name: counts[label] for name, counts in in_sets.items()},
        }
        for label, n in Counter(labels).most_common()
    }
