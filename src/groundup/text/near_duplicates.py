"""Find near duplicates among rows of text, exactly.

Two texts are near duplicates if the Jaccard similarity of their sets of character n-grams, after
folding, is at least a threshold.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from groundup.text.grams import Grams, character_grams, fold
from groundup.text.similarity_join import (
    Numbers,
    candidate_pairs,
    jaccard_of,
    prefixes_of,
    similar_pairs,
)

NEAR_DUPLICATE = 0.7
"""Texts are near duplicates if their Jaccard similarity is at least this."""
_N = 5
_CHUNK = 2**12
"""Pairs after whose comparison rows that are now connected are no longer compared."""
_FREQUENT = 64
"""Rows that share a gram from which on neighbors are compared first."""
_DENSE = 2**21
"""Entries of a dense block of similarities."""


@dataclass(frozen=True)
class Rule:
    """Which texts are near duplicates."""

    threshold: float = NEAR_DUPLICATE
    """Least Jaccard similarity."""
    n: int = _N
    """Length of the n-grams in characters."""
    fold_digits: bool = True
    """Take all digits as equal."""

    @property
    def sentence(self) -> str:
        """The rule in words.

        >>> Rule().sentence
        'Near duplicates have a Jaccard similarity of character 5-grams of at least 0.7, after folding case, digits, punctuation and white space.'
        """  # noqa: E501
        digits = "digits, " if self.fold_digits else ""
        return (
            f"Near duplicates have a Jaccard similarity of character {self.n}-grams of at least "
            f"{self.threshold:g}, after folding case, {digits}punctuation and white space."
        )


TEXT_RULE = Rule()
"""For texts: messages that differ in an amount or a phone number are near duplicates."""
PROMPT_RULE = Rule(threshold=0.6, n=4, fold_digits=False)
"""For prompts, which are shorter, and where another number is another task."""


@dataclass(frozen=True)
class Groups:
    """Rows that are connected by near duplicates."""

    group: list[int]
    """The group of each row; groups are numbered by their first row."""
    n_groups: int
    n_exact_repeats: int
    """Number of rows whose text is equal to that of an earlier row."""
    pairs: list[tuple[int, int, float]]
    """Near duplicates (earlier row, later row, similarity) that connect the rows of each group:
    one less than it has rows."""
    threshold: float


def group_near_duplicates(texts: Sequence[str], rule: Rule = TEXT_RULE) -> Groups:
    """Group rows so that no two groups contain near duplicates of each other.

    >>> group_near_duplicates(["Call 0871 now", "Hello!", "call 0800, NOW"]).group
    [0, 1, 0]
    """
    first_of: dict[str, int] = {}
    folded = [fold(text, fold_digits=rule.fold_digits) for text in texts]
    pairs: list[tuple[int, int, float]] = []
    for row, text in enumerate(folded):
        first = first_of.setdefault(text, row)
        if first != row:
            pairs.append((first, row, 1.0))
    rows = list(first_of.values())
    forest = _Forest(len(rows))
    for i, j, jaccard in forest.connect(character_grams(list(first_of), rule.n), rule.threshold):
        first, second = sorted((rows[i], rows[j]))
        pairs.append((first, second, jaccard))
    root_of = dict(zip(first_of, forest.roots().tolist(), strict=True))
    number_of: dict[int, int] = {}
    group = [number_of.setdefault(root_of[text], len(number_of)) for text in folded]
    n_exact_repeats = len(texts) - len(set(texts))
    return Groups(group, len(number_of), n_exact_repeats, sorted(pairs), rule.threshold)


def has_near_duplicate(
    texts: Sequence[str], references: Sequence[str], rule: Rule = TEXT_RULE
) -> list[bool]:
    """Tell for each text whether a reference is a near duplicate of it.

    >>> has_near_duplicate(["Call 0871 now", "Hello!"], ["CALL 0900 now!"])
    [True, False]
    """
    return [found is not None for found in near_references(texts, references, rule)]


def near_references(
    texts: Sequence[str], references: Sequence[str], rule: Rule = TEXT_RULE
) -> list[tuple[int, float] | None]:
    """Find the most similar near duplicate of each text among the references.

    Returns:
        Its index and similarity, or None where no reference is a near duplicate. Of equally similar
        references, the first one is taken.
    """
    grams = _grams_of([*texts, *references], rule)
    found: list[tuple[int, float] | None] = [None] * len(texts)
    for i, j, jaccard in similar_pairs(grams[: len(texts)], grams[len(texts) :], rule.threshold):
        order = np.lexsort((j, -jaccard, i))  # all pairs of a text are in one block
        texts_found, first = np.unique(i[order], return_index=True)
        best = order[first]
        for text, index, similarity in zip(
            texts_found.tolist(), j[best].tolist(), jaccard[best].tolist(), strict=True
        ):
            found[text] = index, similarity
    return found


def nearest(
    texts: Sequence[str], references: Sequence[str], rule: Rule = TEXT_RULE
) -> list[tuple[int, float]]:
    """Find the most similar reference of each text, as (index, Jaccard similarity).

    Of equally similar references, the first one is taken. There must be at least one.
    The threshold of the rule is not used.

    >>> nearest(["Call 0871 now"], ["Hello!", "CALL 0900 now!"])
    [(1, 1.0)]
    """
    grams = _grams_of([*texts, *references], rule)
    queries, others = grams[: len(texts)], grams[len(texts) :].T.tocsr()
    sizes, other_sizes = np.diff(queries.indptr), np.diff(grams[len(texts) :].indptr)
    found: list[tuple[int, float]] = []
    step = max(1, _DENSE // len(references))
    for start in range(0, len(texts), step):
        shared = (queries[start : start + step] @ others).toarray()
        jaccard = shared / (sizes[start : start + step, None] + other_sizes - shared)
        best = jaccard.argmax(axis=1)
        found += [(int(i), float(row[i])) for i, row in zip(best, jaccard, strict=True)]
    return found


class _Forest:
    """Rows in groups, as trees that are connected by pairs of near duplicates."""

    def __init__(self, n_rows: int) -> None:
        self._parent = np.arange(n_rows)

    def roots(self) -> Numbers:
        """Return the root of each row, the first row of its group."""
        while not np.array_equal(above := self._parent[self._parent], self._parent):
            self._parent = above
        return self._parent

    def connect(self, rows: Grams, threshold: float) -> Iterator[tuple[int, int, float]]:
        """Connect near duplicates; yield the pairs that joined two groups."""
        prefixes = prefixes_of(rows, threshold).tocsc()
        prefixes = prefixes[:, np.diff(prefixes.indptr) > 1]
        sizes = np.diff(prefixes.indptr)
        # Thousands of texts of one template share grams. Neighbors are compared first: a gram whose
        # rows are then in one group needs no comparison of all pairs.
        column = np.repeat(np.arange(len(sizes)), sizes)
        is_next = (column[1:] == column[:-1]) & (sizes[column[1:]] >= _FREQUENT)
        later, earlier = prefixes.indices[1:][is_next], prefixes.indices[:-1][is_next]
        neighbors = np.unique(np.stack([later, earlier]).astype(np.int64), axis=1)
        yield from self._compare(rows, neighbors[0], neighbors[1], threshold)
        if len(sizes):
            roots, starts = self.roots()[prefixes.indices], prefixes.indptr[:-1]
            lowest, highest = np.minimum.reduceat(roots, starts), np.maximum.reduceat(roots, starts)
            prefixes = prefixes[:, lowest < highest]
        prefixes = prefixes.tocsr()
        for _, i, j in candidate_pairs(rows, rows, threshold, is_triangle=True, prefixes=prefixes):
            yield from self._compare(rows, i, j, threshold)

    def _compare(
        self, rows: Grams, i: Numbers, j: Numbers, threshold: float
    ) -> Iterator[tuple[int, int, float]]:
        for k in range(0, len(i), _CHUNK):
            roots = self.roots()
            a, b = i[k : k + _CHUNK], j[k : k + _CHUNK]
            is_open = roots[a] != roots[b]
            a, b = a[is_open], b[is_open]
            jaccard = jaccard_of(rows, rows, a, b)
            is_near = jaccard >= threshold
            for x, y, value in zip(
                a[is_near].tolist(), b[is_near].tolist(), jaccard[is_near].tolist(), strict=True
            ):
                if self._join(x, y):
                    yield x, y, value

    def _join(self, x: int, y: int) -> bool:
        roots = []
        for row in (x, y):
            while (above := int(self._parent[row])) != row:
                row = above
            roots.append(row)
        self._parent[max(roots)] = min(roots)
        return roots[0] != roots[1]


def _grams_of(texts: Sequence[str], rule: Rule) -> Grams:
    return character_grams([fold(text, fold_digits=rule.fold_digits) for text in texts], rule.n)
