"""A line of the validation set, to show what a tokenizer or a model does with the user's text."""

from pathlib import Path

from groundup.base.errors import UserError
from groundup.text.corpus import read_corpus_pieces

_FEWEST_WORDS = 8
_MOST_CHARACTERS = 120
_MOST_LINES = 10_000


def validation_line(data: Path) -> str | None:
    """Return the first line of the validation set that has a few words, cut at a space.

    None: there is no validation set, or no line in it.
    """
    first, n_lines = None, 0
    try:
        for piece in read_corpus_pieces(data, "validation"):  # a document may be of any size
            for line in filter(None, map(str.strip, piece.text.splitlines())):
                first, n_lines = first or line, n_lines + 1
                if len(line.split()) >= _FEWEST_WORDS:
                    return _cut(line)
                if n_lines > _MOST_LINES:
                    return _cut(first)
    except (UserError, OSError, ValueError):
        return None
    return None if first is None else _cut(first)


def _cut(line: str) -> str:
    if len(line) <= _MOST_CHARACTERS:
        return line
    return line[:_MOST_CHARACTERS].rpartition(" ")[0] or line[:_MOST_CHARACTERS]
