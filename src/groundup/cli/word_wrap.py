"""Wrap text at words while it comes in pieces."""

import re

from rich.cells import cell_len

_PARTS = re.compile(r"\s|\S+")
_MOST_HELD = 24
"""Columns of the beginning of a word that wait for its end."""


class WordWrap:
    r"""Breaks lines before the word that does not fit; a word that is not complete is held back.

    >>> wrap = WordWrap(10)
    >>> wrap.push("one two th") + wrap.push("ree\n  four") + wrap.end()
    'one two \nthree\n  four'
    """

    def __init__(self, width: int) -> None:
        self._width = max(2, width)
        self._column = 0
        self._word = ""

    def push(self, piece: str) -> str:
        """Add a piece; return what can be written now."""
        text, self._word = self._word + piece, ""
        parts = _PARTS.findall(text)
        if parts and not parts[-1].isspace() and cell_len(parts[-1]) < _MOST_HELD:
            self._word = parts.pop()
        return "".join(map(self._placed, parts))

    def end(self) -> str:
        """Return the word that was held back."""
        word, self._word = self._word, ""
        return self._placed(word)

    def _placed(self, part: str) -> str:
        if part == "\n":
            self._column = 0
            return part
        n = 8 - self._column % 8 if part == "\t" else cell_len(part)
        breaks = 0 < self._column <= self._width < self._column + n and not part.isspace()
        self._column = n if breaks else self._column + n
        return f"\n{part}" if breaks else part
