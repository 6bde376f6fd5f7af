"""Duplicates within and across the split: what held-out text must not share with training text.

Documents are cut into passages at blank lines. Exact duplicates share their normalised words; near
duplicates are found by MinHash over three-word shingles (Broder, 1997) through the datasketch
library. A passage of the held-out side that stands in the training side is a leak.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from groundup.text.documents import Document

NEAR_JACCARD = 0.8
"""Passages are near duplicates from this share of common shingles on."""
_SHINGLE_WORDS = 3
_SHORTEST_WORDS = 12
_PERMUTATIONS = 64
_MOST_PASSAGES = 20_000


@dataclass(frozen=True, kw_only=True)
class Duplicate:
    """Two passages that say the same."""

    first: str
    second: str
    jaccard: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was found; passages are blocks of at least twelve words between blank lines."""

    n_passages_train: int
    n_passages_validation: int
    n_exact_within_train: int
    n_exact_across: int
    n_near_across: int
    n_validation_near_checked: int
    examples: list[Duplicate]

    @property
    def leaked_frac(self) -> float:
        """The share of held-out passages that stand, exactly or nearly, in the training text."""
        return (self.n_exact_across + self.n_near_across) / max(1, self.n_passages_validation)


def audit(train: Sequence[Document], validation: Sequence[Document]) -> Audit:
    """Look for exact and near duplicates across the split, and exact ones within training.

    Near duplicates are searched among at most 20,000 passages a side, evenly picked; the count
    checked is in the result.
    """
    from datasketch import MinHash, MinHashLSH

    train_passages = list(_passages(train))
    validation_passages = list(_passages(validation))
    by_key: dict[str, tuple[str, str]] = {}
    for name, passage in train_passages:
        by_key.setdefault(_key(passage), (name, passage))
    examples: list[Duplicate] = []
    rest = []
    n_exact_across = 0
    for name, passage in validation_passages:
        twin = by_key.get(_key(passage))
        if twin is None:
            rest.append((name, passage))
            continue
        n_exact_across += 1
        if n_exact_across <= 3:
            examples.append(Duplicate(first=twin[0], second=name, jaccard=1.0, text=passage))
    index = MinHashLSH(threshold=NEAR_JACCARD, num_perm=_PERMUTATIONS)
    kept = _evenly(list(by_key.values()), _MOST_PASSAGES)
    for number, (_, passage) in enumerate(kept):
        index.insert(number, _minhash(passage, MinHash))
    n_near_across = 0
    checked = _evenly(rest, _MOST_PASSAGES)
    for name, passage in checked:
        shingles = _shingles(passage)
        best, twin_name = 0.0, ""
        for number in index.query(_minhash(passage, MinHash)):
            other = _shingles(kept[number][1])
            jaccard = len(shingles & other) / len(shingles | other)
            if jaccard > best:
                best, twin_name = jaccard, kept[number][0]
        if best >= NEAR_JACCARD:
            n_near_across += 1
            if n_near_across <= 3:
                near = Duplicate(first=twin_name, second=name, jaccard=best, text=passage)
                examples.append(near)
    return Audit(
        n_passages_train=len(train_passages),
        n_passages_validation=len(validation_passages),
        n_exact_within_train=len(train_passages) - len(by_key),
        n_exact_across=n_exact_across,
        n_near_across=n_near_across,
        n_validation_near_checked=len(checked),
        examples=examples,
    )


def _passages(documents: Iterable[Document]) -> Iterator[tuple[str, str]]:
    for document in documents:
        for block in document.text.split("\n\n"):
            if len(block.split()) >= _SHORTEST_WORDS:
                yield document.name, block


def _words(passage: str) -> list[str]:
    return passage.lower().split()


def _key(passage: str) -> str:
    return hashlib.sha256(" ".join(_words(passage)).encode()).hexdigest()


def _shingles(passage: str) -> set[str]:
    words = _words(passage)
    n = len(words) - _SHINGLE_WORDS + 1
    return {" ".join(words[i : i + _SHINGLE_WORDS]) for i in range(n)}


def _minhash(passage: str, kind: Any) -> Any:
    result = kind(num_perm=_PERMUTATIONS, seed=1)
    result.update_batch([shingle.encode() for shingle in sorted(_shingles(passage))])
    return result


def _evenly(items: list[tuple[str, str]], most: int) -> list[tuple[str, str]]:
    step = -(-len(items) // most) if items else 1
    return items[::step]
