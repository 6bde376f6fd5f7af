"""What is in a text besides words, and what held-out text must not share with training text.

Documents are cut into passages at blank lines. Exact duplicates share their normalised words; near
duplicates are found by MinHash over three-word shingles (Broder, 1997) through the datasketch
library. A passage of the held-out side that stands in the training side is a leak.

Text streams through. Passages are sampled by a hash of their first words, so that both copies of a
duplicate are in the sample or neither; it is everything until it grows too large, then every second
hash is let go, again and again. What was looked at is in the result.
"""

import hashlib
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from groundup.text.documents import Document
from groundup.text.pieces import Piece
from groundup.text.split import Side

NEAR_JACCARD = 0.8
"""Passages are near duplicates from this share of common shingles on."""
_SHINGLE_WORDS = 3
_SHORTEST_WORDS = 12
_PERMUTATIONS = 64
_MOST_PASSAGES = 20_000
_KEPT_CHARACTERS = 4_000
_FIRST_CHARACTERS = 200
_WEIGHED_PASSAGES = 1_000


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
    """Passages looked at."""
    n_passages_validation: int
    sampled_frac: float
    """The share of all passages that was looked at."""
    n_exact_within_train: int
    n_exact_within_validation: int
    n_exact_across: int
    n_near_across: int
    examples: list[Duplicate]
    non_text_frac: float
    """The share of characters that are controls, unassigned, private or U+FFFD."""
    scripts: list[tuple[str, float]]
    """Writing systems and their share of the letters, the commonest first."""
    languages: list[tuple[str, float]]
    """Languages (ISO 639-1) and their share of the passages, by py3langid's guess."""

    @property
    def leaked_frac(self) -> float:
        """The share of held-out passages that stand, exactly or nearly, in the training text."""
        return (self.n_exact_across + self.n_near_across) / max(1, self.n_passages_validation)


@dataclass(frozen=True)
class _Passage:
    document: str
    text: str


class Auditor:
    """Looks at a corpus as it streams by: `add` every piece, then `finish`."""

    def __init__(self) -> None:
        self._kept: dict[Side, dict[int, list[_Passage]]] = {"train": {}, "validation": {}}
        self._n_kept = {"train": 0, "validation": 0}
        self._every = 1

    def add(self, side: Side, piece: Piece) -> None:
        """Look at one piece."""
        for block in piece.text.split("\n\n"):
            if len(block) < 2 * _SHORTEST_WORDS - 1:
                continue
            head = block[:_FIRST_CHARACTERS].split(None, _SHORTEST_WORDS)
            if len(head) <= _SHORTEST_WORDS and len(block) > _FIRST_CHARACTERS:
                head = block.split(None, _SHORTEST_WORDS)
            if len(head) < _SHORTEST_WORDS:
                continue
            key = zlib.crc32(" ".join(head[:_SHORTEST_WORDS]).lower().encode())
            if key % self._every == 0:
                passage = _Passage(piece.name, block[:_KEPT_CHARACTERS])
                self._kept[side].setdefault(key, []).append(passage)
                self._n_kept[side] += 1
                if self._n_kept[side] > _MOST_PASSAGES:
                    self._thin_out()

    def finish(self) -> Audit:
        """Compare what was kept."""
        n_exact_across = n_near_across = 0
        examples: list[Duplicate] = []
        train = {_key(passage.text): passage for passage in self._passages("train")}
        rest = []
        n_distinct_validation = len({_key(p.text) for p in self._passages("validation")})
        for passage in self._passages("validation"):
            twin = train.get(_key(passage.text))
            if twin is None:
                rest.append(passage)
                continue
            n_exact_across += 1
            if n_exact_across <= 3:
                examples.append(_duplicate(twin, passage, 1.0))
        for twin, passage, jaccard in _near(list(train.values()), rest):
            n_near_across += 1
            if n_near_across <= 3:
                examples.append(_duplicate(twin, passage, jaccard))
        everything = [*self._passages("train"), *self._passages("validation")]
        return Audit(
            n_passages_train=self._n_kept["train"],
            n_passages_validation=self._n_kept["validation"],
            sampled_frac=1 / self._every,
            n_exact_within_train=self._n_kept["train"] - len(train),
            n_exact_within_validation=self._n_kept["validation"] - n_distinct_validation,
            n_exact_across=n_exact_across,
            n_near_across=n_near_across,
            examples=examples,
            **_weigh(everything[:: -(-len(everything) // _WEIGHED_PASSAGES) or 1]),
        )

    def _passages(self, side: Side) -> list[_Passage]:
        return [passage for passages in self._kept[side].values() for passage in passages]

    def _thin_out(self) -> None:
        self._every *= 2
        for side, kept in self._kept.items():
            self._kept[side] = {k: v for k, v in kept.items() if k % self._every == 0}
            self._n_kept[side] = sum(map(len, self._kept[side].values()))


def audit(train: Iterable[Document], validation: Iterable[Document]) -> Audit:
    """Look at documents that are in memory."""
    auditor = Auditor()
    sides: dict[Side, Iterable[Document]] = {"train": train, "validation": validation}
    for side, documents in sides.items():
        for document in documents:
            auditor.add(side, Piece(document.name, document.text))
    return auditor.finish()


def _near(
    passages: list[_Passage], others: list[_Passage]
) -> list[tuple[_Passage, _Passage, float]]:
    """Give (passage, other, jaccard) for each of the others that is nearly a passage."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=NEAR_JACCARD, num_perm=_PERMUTATIONS)
    for number, passage in enumerate(passages):
        index.insert(number, _minhash(passage.text, MinHash))
    found = []
    for other in others:
        shingles = _shingles(other.text)
        best, twin = 0.0, None
        for number in index.query(_minhash(other.text, MinHash)):
            candidate = _shingles(passages[number].text)
            jaccard = len(shingles & candidate) / len(shingles | candidate)
            if jaccard > best:
                best, twin = jaccard, passages[number]
        if twin is not None and best >= NEAR_JACCARD:
            found.append((twin, other, best))
    return found


def _weigh(passages: list[_Passage]) -> dict[str, Any]:
    """Count scripts, languages and what is no text in some passages."""
    import py3langid

    scripts: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    n_characters = n_non_text = 0
    for passage in passages:
        for character, n in Counter(passage.text).items():
            category = unicodedata.category(character)
            n_characters += n
            if (category[0] == "C" and character not in "\n\t") or character == "\ufffd":
                n_non_text += n
            elif category[0] == "L":
                # The first word of a letter's name is its writing system: LATIN, CJK, ARABIC.
                scripts[unicodedata.name(character, "?").split()[0].lower()] += n
        languages[str(py3langid.classify(passage.text)[0])] += 1
    return {
        "non_text_frac": n_non_text / max(1, n_characters),
        "scripts": _shares(scripts),
        "languages": _shares(languages),
    }


def _shares(counts: Counter[str]) -> list[tuple[str, float]]:
    total = max(1, counts.total())
    return [(name, count / total) for name, count in counts.most_common(5)]


def _duplicate(first: _Passage, second: _Passage, jaccard: float) -> Duplicate:
    return Duplicate(
        first=first.document, second=second.document, jaccard=jaccard, text=second.text
    )


def _key(passage: str) -> str:
    return hashlib.sha256(" ".join(passage.lower().split()).encode()).hexdigest()


def _shingles(passage: str) -> set[str]:
    words = passage.lower().split()
    n = len(words) - _SHINGLE_WORDS + 1
    return {" ".join(words[i : i + _SHINGLE_WORDS]) for i in range(n)}


def _minhash(passage: str, kind: Any) -> Any:
    result = kind(num_perm=_PERMUTATIONS, seed=1)
    result.update_batch([shingle.encode() for shingle in sorted(_shingles(passage))])
    return result
