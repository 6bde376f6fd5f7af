"""Find near-duplicate passages with MinHash over three-word shingles.

Source: Broder (1997), "On the resemblance and containment of documents"; the index is rensa's.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from groundup.text.split import Side

NEAR_JACCARD = 0.8
"""Passages are near duplicates if their Jaccard similarity is at least this."""
_SHINGLE_WORDS = 3
_PERMUTATIONS, _BANDS = 64, 16
"""A pair at the threshold is missed with probability (1 - 0.8^4)^16, one in 4,600."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A block of text between blank lines."""

    side: Side
    document: str
    text: str


def find_near_duplicates(
    passages: Sequence[Passage],
) -> Iterator[tuple[Passage, Passage, float]]:
    """Find near duplicates as (earlier passage, later passage, Jaccard similarity).

    A validation passage is compared with both sides, a training passage only with its own. A
    passage that repeats an earlier one of its side is not compared with later ones.

    Args:
        passages: All passages, those of the training set first.
    """
    indexes = {"train": _Index(), "validation": _Index()}
    for passage in _likely(passages):
        shingles = _shingles(passage.text)
        signature = indexes["train"].sign(shingles)
        for side in dict.fromkeys(("train", passage.side)):
            twin = indexes[side].find(shingles, signature)
            if twin is not None:
                yield twin[0], passage, twin[1]
            elif side == passage.side:
                indexes[side].add(passage, shingles, signature)


def _likely(passages: Sequence[Passage]) -> Iterable[Passage]:
    """Drop passages that cannot have a near duplicate: too few of their shingles are shared."""
    if not passages:
        return []
    hashes = [np.fromiter(map(hash, _shingles(p.text)), dtype=np.int64) for p in passages]
    edges = np.cumsum([0, *map(len, hashes[:-1])])
    _, where, counts = np.unique(np.concatenate(hashes), return_inverse=True, return_counts=True)
    n_shared = np.add.reduceat(counts[where] > 1, edges, dtype=np.int64)
    return (
        passage
        for passage, found, n in zip(passages, hashes, n_shared, strict=True)
        if n >= NEAR_JACCARD * len(found)
    )


@dataclass
class _Index:
    """The passages of one side, indexed by their MinHash."""

    _passages: list[tuple[Passage, set[str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        from rensa import RMinHash, RMinHashLSH

        self._new_signature = RMinHash
        self._lsh = RMinHashLSH(NEAR_JACCARD, _PERMUTATIONS, _BANDS)

    def sign(self, shingles: set[str]) -> Any:
        signature = self._new_signature(_PERMUTATIONS, 1)
        signature.update(list(shingles))
        return signature

    def add(self, passage: Passage, shingles: set[str], signature: Any) -> None:
        self._lsh.insert(len(self._passages), signature)
        self._passages.append((passage, shingles))

    def find(self, shingles: set[str], signature: Any) -> tuple[Passage, float] | None:
        """Find the first passage whose exact Jaccard similarity is high enough."""
        for number in sorted(self._lsh.query(signature)):
            passage, others = self._passages[number]
            jaccard = len(shingles & others) / len(shingles | others)
            if jaccard >= NEAR_JACCARD:
                return passage, jaccard
        return None


def _shingles(passage: str) -> set[str]:
    words = passage.lower().split()
    n = len(words) - _SHINGLE_WORDS + 1
    return {" ".join(words[i : i + _SHINGLE_WORDS]) for i in range(n)}
