"""Find duplicates within and across the training and validation set; identify languages.

Documents are cut into passages at blank lines. Longer blocks are cut after lines or sentences that
their hash selects, so that two copies are cut in the same places, wherever they begin. Exact
duplicates have the same normalized words, near duplicates share most of their three-word shingles.
A passage of the validation set that also occurs in the training set is a leak.

Text streams through. Passages are sampled by a hash of their first words, so that both copies of a
duplicate are in the sample or neither. All passages are examined until they or their words become
too many; then half of the hashes are dropped, as often as necessary. The result states the sampled
fraction.
"""

import hashlib
import re
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from groundup.text.documents import Document
from groundup.text.duplicates import Passage, find_near_duplicates
from groundup.text.grams import words_of
from groundup.text.pieces import Piece
from groundup.text.split import Side

_SHORTEST_WORDS = 12
_SHORTEST_CHARACTERS = 36
_LONGEST_CHARACTERS = 4_000
_USUAL_CHARACTERS = 1_000
"""Mean length of the passages of a longer block, besides the first characters."""
_MOST_PASSAGES = 20_000
"""Of a side."""
_MOST_WORDS = 2**21
"""Of both sides; each needs about 100 bytes."""
_FIRST_CHARACTERS = 200
_EXAMPLES = 3
_IDENTIFIED_PASSAGES = 1_000

_PARTS = (
    re.compile(r"[^\n]*\n|[^\n]+"),
    re.compile(r"[^.!?。！？]*[.!?。！？]+|[^.!?。！？]+"),
    re.compile(rf"\S{{1,{_FIRST_CHARACTERS}}}\s?|\s"),
)
"""Lines, sentences, words. A long block is cut into the first of these that is short enough."""


@dataclass(frozen=True, kw_only=True)
class Duplicate:
    """Two passages that repeat each other, and the names of their documents."""

    first: str
    second: str
    jaccard: float
    text: str


@dataclass(kw_only=True)
class Repeats:
    """The number of passages that repeat an earlier one."""

    n_exact: int = 0
    """Exact duplicates."""
    n_near: int = 0
    """Near duplicates, which are not counted as exact ones."""
    examples: list[Duplicate] = field(default_factory=list)

    def note(self, earlier: Passage, later: Passage, jaccard: float | None = None) -> None:
        """Count a passage; without a Jaccard similarity it is an exact duplicate."""
        if jaccard is None:
            self.n_exact += 1
        else:
            self.n_near += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(
                Duplicate(
                    first=earlier.document,
                    second=later.document,
                    jaccard=1.0 if jaccard is None else jaccard,
                    text=later.text,
                )
            )


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The result of an audit.

    Passages are blocks of at least twelve words between blank lines, and parts of long blocks. In
    scripts without spaces, such as Chinese and Thai, each character counts as a word.
    """

    n_passages_train: int
    """Number of passages that were examined."""
    n_passages_validation: int
    sampled_frac: float
    """Fraction of all passages that was examined."""
    within_train: Repeats
    within_validation: Repeats
    across: Repeats
    """Validation passages that also occur in the training set."""
    non_text_frac: float
    """Fraction of characters that are control, unassigned or private characters, or U+FFFD."""
    scripts: list[tuple[str, float]]
    """Writing systems and their fraction of the letters, the most frequent first."""
    languages: list[tuple[str, float]]
    """Languages (ISO 639-1) and their fraction of the passages, as identified by py3langid."""

    @property
    def leaked_frac(self) -> float:
        """Fraction of validation passages with an exact or near duplicate in the training set."""
        return (self.across.n_exact + self.across.n_near) / max(1, self.n_passages_validation)

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> "Audit":
        """Build an audit from its JSON form, as written by `asdict`."""
        read = dict(table)
        for name in ("within_train", "within_validation", "across"):
            examples = [Duplicate(**example) for example in read[name]["examples"]]
            read[name] = Repeats(**{**read[name], "examples": examples})
        for name in ("scripts", "languages"):
            read[name] = [(key, share) for key, share in read[name]]
        return cls(**read)


class Auditor:
    """Audit a corpus as it streams through: `add` every piece, then `finish`."""

    def __init__(self) -> None:
        self._kept: dict[Side, dict[int, list[Passage]]] = {"train": {}, "validation": {}}
        self._n_kept = {"train": 0, "validation": 0}
        self._n_words = 0
        self._every = 1

    def add(self, side: Side, piece: Piece) -> None:
        """Examine one piece."""
        for text in _passages_of(piece.text):
            if len(text) < _SHORTEST_CHARACTERS:
                continue
            head = words_of(text[:_FIRST_CHARACTERS])
            if len(head) <= _SHORTEST_WORDS and len(text) > _FIRST_CHARACTERS:
                head = words_of(text)
            if len(head) < _SHORTEST_WORDS:
                continue
            key = zlib.crc32(" ".join(head[:_SHORTEST_WORDS]).lower().encode())
            if key % self._every == 0:
                passage = Passage(side, piece.name, text)
                self._kept[side].setdefault(key, []).append(passage)
                self._n_kept[side] += 1
                self._n_words += len(words_of(text))
                if self._n_kept[side] > _MOST_PASSAGES or self._n_words > _MOST_WORDS:
                    self._halve()

    def finish(self) -> Audit:
        """Compare the sampled passages."""
        found: defaultdict[tuple[Side, Side], Repeats] = defaultdict(Repeats)
        first: dict[tuple[Side, str], Passage] = {}
        unique = []
        everything = [*self._passages("train"), *self._passages("validation")]
        counted = _count_languages(everything[:: -(-len(everything) // _IDENTIFIED_PASSAGES) or 1])
        for passage in everything:
            key = _key(passage.text)
            sides: set[Side] = {"train", passage.side}
            twins = [first[side, key] for side in sides if (side, key) in first]
            for twin in twins:
                found[twin.side, passage.side].note(twin, passage)
            first.setdefault((passage.side, key), passage)
            if not twins:
                unique.append(passage)
        for twin, passage, jaccard in find_near_duplicates(unique):
            found[twin.side, passage.side].note(twin, passage, jaccard)
        return Audit(
            n_passages_train=self._n_kept["train"],
            n_passages_validation=self._n_kept["validation"],
            sampled_frac=1 / self._every,
            within_train=found["train", "train"],
            within_validation=found["validation", "validation"],
            across=found["train", "validation"],
            **counted,
        )

    def _passages(self, side: Side) -> list[Passage]:
        return [passage for passages in self._kept[side].values() for passage in passages]

    def _halve(self) -> None:
        self._every *= 2
        for side, kept in self._kept.items():
            self._kept[side] = {k: v for k, v in kept.items() if k % self._every == 0}
            self._n_kept[side] = sum(map(len, self._kept[side].values()))
        everything = [*self._passages("train"), *self._passages("validation")]
        self._n_words = sum(len(words_of(passage.text)) for passage in everything)


def audit(train: Iterable[Document], validation: Iterable[Document]) -> Audit:
    """Audit documents that are in memory."""
    auditor = Auditor()
    sides: dict[Side, Iterable[Document]] = {"train": train, "validation": validation}
    for side, documents in sides.items():
        for document in documents:
            auditor.add(side, Piece(document.name, document.text))
    return auditor.finish()


def _passages_of(text: str) -> Iterator[str]:
    """Cut a text at blank lines, and longer blocks after parts that their hash selects."""
    for block in text.split("\n\n"):
        if len(block) <= _LONGEST_CHARACTERS:
            yield block
            continue
        start = end = 0
        for part in _parts_of(block):
            if end + len(part) - start > _LONGEST_CHARACTERS:
                yield block[start:end]
                start = end
            end += len(part)
            is_selected = zlib.crc32(part.encode()) % _USUAL_CHARACTERS < len(part)
            if is_selected and end - start >= _FIRST_CHARACTERS:
                yield block[start:end]
                start = end
        yield block[start:]


def _parts_of(block: str, level: int = 0) -> Iterator[str]:
    """Cut a block into lines, longer lines into sentences, and longer sentences into words."""
    for part in _PARTS[level].findall(block):
        if len(part) <= _LONGEST_CHARACTERS:
            yield part
        else:
            yield from _parts_of(part, level + 1)


def _count_languages(passages: list[Passage]) -> dict[str, Any]:
    """Count the scripts, the languages and the characters that are not text."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)  # 75 MB, freed when this returns
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
        languages[str(identifier.classify(passage.text)[0])] += 1
    return {
        "non_text_frac": n_non_text / max(1, n_characters),
        "scripts": _shares(scripts),
        "languages": _shares(languages),
    }


def _shares(counts: Counter[str]) -> list[tuple[str, float]]:
    total = max(1, counts.total())
    return [(name, count / total) for name, count in counts.most_common(5)]


def _key(passage: str) -> str:
    return hashlib.sha256(" ".join(words_of(passage.lower())).encode()).hexdigest()
