r"""Documents in pieces: a text of any size passes through in constant memory.

A piece ends where cutting changes no token: before a single space between two visible characters,
or after a single line feed between two. The patterns of GPT-2 and GPT-4 begin a new pretoken there
whatever follows, and look no further back (`tests/text/test_pieces.py` holds it against encoding
whole texts). Where a text has no such place, the piece grows until one comes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import regex

PIECE_CHARACTERS = 2**20
"""About how long a piece gets."""

_SAFE_CUT = regex.compile(r"(?<=\S)(?= \S)|(?<=\S\n)(?=\S)")


@dataclass(frozen=True)
class Piece:
    """A part of a document, or the whole of a short one."""

    name: str
    """The document's."""
    text: str
    is_first: bool = True
    is_last: bool = True


def cut_into_pieces(
    name: str, chunks: Iterable[str], size: int = PIECE_CHARACTERS
) -> Iterator[Piece]:
    """Cut the text that comes in chunks into pieces of about `size` characters.

    >>> [piece.text for piece in cut_into_pieces("a", ["one two", " three"], size=4)]
    ['one', ' two', ' three']
    """
    text, goal, is_first = "", size, True
    for chunk in chunks:
        text += chunk
        while len(text) > goal:
            cut = safe_cut(text, goal, back_to=goal - size)
            if cut is None:
                goal = len(text)  # search the next chunk only: an unbroken text costs no more
                break
            yield Piece(name, text[:cut], is_first, is_last=False)
            text, goal, is_first = text[cut:], size, False
    yield Piece(name, text, is_first, is_last=True)


def safe_cut(text: str, goal: int, back_to: int = 0) -> int | None:
    """Find where to cut without changing a token: the last place up to `goal`, else the next.

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
