r"""Cut documents into pieces, so that a text of any size passes through in constant memory.

A piece ends where cutting changes no token: before a single space between two visible characters,
or after a single line feed between two. The patterns of GPT-2 and GPT-4 begin a new pretoken there
whatever follows, and look no further back (`tests/text/test_pieces.py` compares with encoding
complete texts). Where a text has no such place, the piece grows until one is found.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import regex

PIECE_CHARACTERS = 2**20
"""Approximate length of a piece."""

_SAFE_CUT = regex.compile(r"(?<=\S)(?= \S)|(?<=\S\n)(?=\S)")


@dataclass(frozen=True)
class Piece:
    """A part of a document, or all of a short one."""

    name: str
    """The name of the document."""
    text: str
    is_first: bool = True
    is_last: bool = True


def cut_into_pieces(
    name: str, chunks: Iterable[str], size: int = PIECE_CHARACTERS
) -> Iterator[Piece]:
    """Cut a text that arrives in chunks into pieces of about `size` characters.

    >>> [piece.text for piece in cut_into_pieces("a", ["one two", " three"], size=4)]
    ['one', ' two', ' three']
    """
    text, goal, is_first = "", size, True
    for chunk in chunks:
        text += chunk
        start = 0  # what comes before is in pieces already
        while len(text) - start > goal:
            low = start + max(1, goal - size)
            cut = safe_cut(text, start + goal, back_to=low)
            if cut is None:
                goal = len(text) - start  # search the next chunk only: unbroken text stays linear
                break
            yield Piece(name, text[start:cut], is_first, is_last=False)
            start, goal, is_first = cut, size, False
        text = text[start:]
    yield Piece(name, text, is_first, is_last=True)


def safe_cut(text: str, goal: int, back_to: int = 0) -> int | None:
    """Find where to cut without changing a token: the last place up to `goal`, or the next one.

    >>> safe_cut("one two  three", 10), safe_cut("unbroken", 3)
    (3, None)
    """
    reach = 256
    while True:
        low = max(back_to, goal - reach)
        places = [int(found.start()) for found in _SAFE_CUT.finditer(text, low, goal + 2)]
        if places and places[-1] <= goal:
            return places[-1]
        if low == back_to:
            break
        reach *= 8
    found = _SAFE_CUT.search(text, goal)
    return int(found.start()) if found else None
