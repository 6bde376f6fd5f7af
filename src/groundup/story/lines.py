"""The task of the story's classifier: is this a real line, or are its words shuffled?

The order of words decides, which a bag of words does not see and a language model does. The lines
are from the validation set, so that the model was not trained on them, and those of the test set
are from other documents than those of the training set.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from groundup.base.errors import UserError
from groundup.finetune.classify.labeled_file import write_rows
from groundup.records.rows import LabeledText
from groundup.text.documents import Document, join_pieces
from groundup.text.pieces import Piece

REAL, SHUFFLED = "real", "shuffled"
_MIN_WORDS, _MAX_WORDS = 5, 16
_MAX_LINES = {"train": 1200, "test": 400}
_MIN_LINES = 40
_ENOUGH_CHARACTERS = 5_000_000
_TEST_FRAC = 0.3
_N_PARTS = 10
"""Where there are too few documents, consecutive parts of them take their place."""


def shuffled_lines(documents: Sequence[Document], seed: int) -> list[LabeledText]:
    """Make the labeled lines of the training and the test set, half of them shuffled.

    No line is in both classes or in both sets.

    Args:
        documents: The validation documents of the story.
        seed: Random seed of the choice and of the shuffling.

    Raises:
        UserError: The documents have too few lines.
    """
    rng = np.random.default_rng(seed)
    texts = [document.text for document in documents]
    sets = _divided(texts)
    if len(sets["test"]) < _TEST_FRAC / 2 * sum(map(len, sets.values())) or not sets["train"]:
        sets = _divided([part for text in texts for part in _parts(text)])
    n_lines = sum(map(len, sets.values()))
    if n_lines < _MIN_LINES or not all(sets.values()):
        raise UserError(
            f"The validation set has {n_lines} different lines of {_MIN_WORDS} words or more. At "
            f"least {_MIN_LINES} are expected."
        )
    return [
        row for name, found in sets.items() for row in _labeled(found, _MAX_LINES[name], name, rng)
    ]


def first_documents(pieces: Iterable[Piece]) -> list[Document]:
    """Take documents as far as they are needed, from a validation set of any size.

    Of a document that is larger than that, the beginning is taken.
    """

    def needed() -> Iterator[Piece]:
        n_characters = 0
        for piece in pieces:
            n_characters += len(piece.text)
            if n_characters > _ENOUGH_CHARACTERS:
                yield replace(piece, is_last=True)
                return
            yield piece

    return list(join_pieces(needed()))


def write_lines(rows: Sequence[LabeledText], path: Path) -> None:
    """Write labeled lines as JSON lines, for `groundup classify --labels`.

    Raises:
        UserError: The file cannot be written.
    """
    table = [{"text": row.text, "label": row.label, "set": row.part} for row in rows]
    write_rows(path, iter([table]))


def _divided(texts: Sequence[str]) -> dict[str, list[list[str]]]:
    """Put the lines of some texts into the test set, and those of the others into training."""
    seen: set[str] = set()
    lines = [[line for line in _lines(text) if _is_new(line, seen)] for text in texts]
    n_test = _TEST_FRAC * sum(map(len, lines))
    sets: dict[str, list[list[str]]] = {"train": [], "test": []}
    for some in sorted(lines, key=len):  # small ones first, to come close to the fraction
        is_test = not sets["test"] or len(sets["test"]) + len(some) / 2 <= n_test
        sets["test" if is_test else "train"] += some
    return sets


def _parts(text: str) -> list[str]:
    lines = text.splitlines(keepends=True)
    bounds = np.linspace(0, len(lines), _N_PARTS + 1).astype(int)
    return ["".join(lines[a:b]) for a, b in zip(bounds, bounds[1:], strict=False)]


def _lines(text: str) -> Iterator[list[str]]:
    """Yield the words of each line; long lines, as in prose, are cut."""
    for line in text.splitlines():
        words = line.split()
        n_cuts = -(-len(words) // _MAX_WORDS)
        for some in np.array_split(np.array(words, dtype=object), max(1, n_cuts)):
            if len(some) >= _MIN_WORDS:
                yield some.tolist()


def _is_new(words: Sequence[str], seen: set[str]) -> bool:
    key = " ".join(words).casefold()
    if key in seen or len(set(words)) < _MIN_WORDS:
        return False
    seen.add(key)
    return True


def _labeled(
    lines: Sequence[list[str]], most: int, name: str, rng: np.random.Generator
) -> Iterator[LabeledText]:
    chosen = rng.permutation(len(lines))[:most]
    for place, index in enumerate(chosen[: len(chosen) // 2 * 2]):
        words = lines[index]
        if place % 2 == 0:
            yield LabeledText(" ".join(words), REAL, part=name)
            continue
        mixed = words
        while mixed == words:
            mixed = [words[i] for i in rng.permutation(len(words))]
        yield LabeledText(" ".join(mixed), SHUFFLED, part=name)
