"""Labels for unlabeled text: from which document, or which part of it, does a passage come?

The largest documents become the classes. Each is cut into passages of equal length without
overlap, and blocks of adjacent passages form the test set. A document that mostly repeats a larger
one is skipped, because two classes would then share one text.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from groundup.base.errors import UserError
from groundup.records.rows import LabeledText
from groundup.text.documents import Document

_log = logging.getLogger(__name__)

BLOCK = 5
"""Number of adjacent passages in a block of the test set."""
MAX_REPEATED_FRAC = 0.2
"""A document is skipped if more than this fraction of its long lines is in a larger one."""
MIN_PASSAGES = 4
"""Minimum number of passages per class."""
SHORTER_PASSAGES = (60, 40, 20, 10)
"""Lengths to try for a text that is too short for the requested ones."""


@dataclass(frozen=True)
class PassageSplit:
    """Training and test set of passages, which share no text."""

    train: list[LabeledText]
    test: list[LabeledText]
    names: tuple[str, ...]
    """The class names, in a fixed order."""
    source: str
    n_duplicates: int = 0
    """Number of passages left out of the test set because they are in the training set."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Counts by what was left out."""

    def index(self, label: str) -> int:
        """Return the index of a class name: the target of the classifier."""
        return self.names.index(label)


def cut_passages(text: str, n_characters: int) -> list[str]:
    """Cut a text into consecutive passages of complete words, at least `n_characters` long.

    White space becomes single spaces, so that the layout does not reveal the document. A remainder
    that is too short for a passage is dropped.

    >>> cut_passages("to be or not to be, that is the question!", 13)
    ['to be or not to', 'be, that is the']
    """
    passages: list[str] = []
    words: list[str] = []
    length = -1
    for word in text.split():
        words.append(word)
        length += len(word) + 1
        if length >= n_characters:
            passages.append(" ".join(words))
            words, length = [], -1
    return passages


def passages_by_source(
    documents: Iterable[Document], *, n_classes: int, n_characters: int, test_frac: float
) -> PassageSplit:
    """Make a training and a test set of passages labeled by document, balanced by class.

    Where fewer than `n_classes` documents are long enough, the largest document is cut into
    `n_classes` consecutive parts instead. The classes are then `part 1`, `part 2`, ...

    Raises:
        UserError: The text is too short to give each class a few passages, or repeats itself.
    """
    documents = list(documents)
    cut = _cut_documents(documents, n_classes, n_characters)
    n_each = min(map(len, cut.passages.values()))
    if n_each < MIN_PASSAGES:
        fewer = (
            _cut_documents(documents, 2, shorter).passages.values() for shorter in SHORTER_PASSAGES
        )
        fitting = [min(map(len, passages)) >= MIN_PASSAGES for passages in fewer]
        works = [n for n, fits in zip(SHORTER_PASSAGES, fitting, strict=True) if fits]
        raise UserError(
            f"The text gives only {n_each} passages of {n_characters} characters per class. At "
            f"least {MIN_PASSAGES} for each of {n_classes} classes are expected. A longer text or "
            "a file of labeled texts also works.",
            settings={"n_classes": 2, "passage_characters": works[0]} if works else None,
        )
    in_test = blocks_for_test(n_each, test_frac)
    train: list[LabeledText] = []
    test: list[LabeledText] = []
    for name, passages in cut.passages.items():
        for text, is_test in zip(passages[:n_each], in_test, strict=True):
            (test if is_test else train).append(LabeledText(text, name))
    seen = {example.text for example in train}
    unseen = [example for example in test if example.text not in seen]
    if not unseen:
        raise UserError(
            f"All {len(test)} passages of the test set are also in the training set: the text "
            "repeats itself. A text with different passages is expected."
        )
    n_passages = sum(map(len, cut.passages.values()))
    return PassageSplit(
        train,
        unseen,
        tuple(cut.passages),
        cut.source,
        n_duplicates=len(test) - len(unseen),
        left_out={
            "documents that repeat a larger one": cut.n_repeating,
            "smaller documents": len(documents) - cut.n_used - cut.n_repeating,
            "passages of the larger documents, so that all classes have the same size,": (
                n_passages - n_each * len(cut.passages)
            ),
        },
    )


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """The passages of each class."""

    passages: dict[str, list[str]]
    source: str
    n_used: int
    """Number of documents that the passages are from."""
    n_repeating: int
    """Number of documents that were skipped because they repeat a larger one."""


def _cut_documents(documents: Sequence[Document], n_classes: int, n_characters: int) -> _Cut:
    chosen, enough, n_repeating = _largest_distinct(documents, n_classes, 10 * n_characters)
    if enough:
        names = short_names([document.name for document in chosen])
        return _Cut(
            passages={
                name: cut_passages(document.text, n_characters)
                for name, document in zip(names, chosen, strict=True)
            },
            source="document that the passage is from",
            n_used=len(chosen),
            n_repeating=n_repeating,
        )
    passages = cut_passages(chosen[0].text if chosen else "", n_characters)
    size = len(passages) // n_classes
    return _Cut(
        passages={f"part {k + 1}": passages[k * size : (k + 1) * size] for k in range(n_classes)},
        source="part of the document that the passage is from",
        n_used=min(1, len(chosen)),
        n_repeating=n_repeating,
    )


def blocks_for_test(n_passages: int, test_frac: float) -> list[bool]:
    """Mark the passages of the test set: blocks of adjacent passages, spread over the document.

    Single passages would put every test passage between two training passages. One block at the
    end would test on a part of the document with another subject.

    >>> "".join(".T"[is_test] for is_test in blocks_for_test(24, 0.25))
    '.........TTT.........TTT'
    """
    size = max(1, min(BLOCK, n_passages // 8))
    n_blocks = -(-n_passages // size)
    in_test = [int((b + 1) * test_frac) > int(b * test_frac) for b in range(n_blocks)]
    if not any(in_test):
        in_test[-1] = True
    if all(in_test):
        in_test[0] = False
    return [in_test[i // size] for i in range(n_passages)]


def short_names(names: Sequence[str]) -> list[str]:
    """Shorten file names to their stems, unless two stems are equal.

    >>> short_names(["books/emma.txt", "books/persuasion.txt"])
    ['emma', 'persuasion']
    >>> short_names(["a/1.txt", "b/1.txt"])
    ['a/1.txt', 'b/1.txt']
    """
    stems = [PurePath(name.split("#")[-1]).stem or name for name in names]
    return stems if len(set(stems)) == len(names) else list(names)


def _largest_distinct(
    documents: Sequence[Document], n_classes: int, n_characters: int
) -> tuple[list[Document], bool, int]:
    """Choose the largest documents that do not repeat each other.

    Returns:
        The documents, whether they are enough, and the number of those that repeat another one.
    """
    n_repeating = 0
    chosen: list[Document] = []
    seen: set[str] = set()
    for document in sorted(documents, key=lambda d: (-len(d.text), d.name)):
        if len(chosen) == n_classes:
            break
        lines = {line.strip() for line in document.text.splitlines() if len(line.strip()) >= 40}
        if lines and len(lines & seen) / len(lines) > MAX_REPEATED_FRAC:
            _log.info("%s repeats a larger document and is skipped", document.name)
            n_repeating += 1
            continue
        chosen.append(document)
        seen |= lines
    enough = len(chosen) == n_classes and len(chosen[-1].text) >= n_characters
    return chosen, enough, n_repeating
