r"""Cut documents into pieces, so that a text of any size passes through in constant memory.

A piece ends where cutting changes no token: before a single space between two visible characters,
or after a single line feed between two. Where Chinese or Japanese text has neither, it ends before
a punctuation mark that follows a letter. The patterns of GPT-2 and GPT-4 begin a new pretoken there
whatever follows, and look no further back (`tests/text/test_pieces.py` compares with encoding
complete texts). Where a text has no such place, the piece grows until one is found, and a warning
is logged if it becomes large.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import regex

_log = logging.getLogger(__name__)

PIECE_CHARACTERS = 2**20
"""Approximate length of a piece."""

_LARGE_PIECE = 2**24
"""Number of characters of a piece from which on a warning is logged."""

_SAFE_CUT = regex.compile(r"(?<=\S)(?= \S)|(?<=\S\n)(?=\S)")
_LETTERS = r"\u3041-\u3096\u30a1-\u30fa\u3400-\u4db5\u4e00-\u9fa5"
EAST_ASIAN_MARKS = "、。，．！？；：…（）「」『』《》“”"
_EAST_ASIAN_CUT = regex.compile(f"(?<=[{_LETTERS}])(?=[{EAST_ASIAN_MARKS}])")
"""Letters and marks that every version of Unicode takes for letters and marks."""


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
    is_large = False
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
        if len(text) > _LARGE_PIECE and not is_large:
            is_large = True
            _log.warning(
                "%s has more than %d million characters without a place to cut it, such as a space "
                "or the end of a line. Memory use grows with their number.",
                name, _LARGE_PIECE // 10**6,
            )  # fmt: skip
    yield Piece(name, text, is_first, is_last=True)


def safe_cut(text: str, goal: int, back_to: int = 0) -> int | None:
    """Find where to cut without changing a token: the last place up to `goal`, or the next one.

    >>> safe_cut("one two  three", 10), safe_cut("unbroken", 3)
    (3, None)
    """
    for kind, n_ahead in ((_SAFE_CUT, 2), (_EAST_ASIAN_CUT, 1)):
        if (place := _last_cut(kind, text, goal, back_to, n_ahead)) is not None:
            return place
    found = [kind.search(text, goal) for kind in (_SAFE_CUT, _EAST_ASIAN_CUT)]
    return min((int(match.start()) for match in found if match), default=None)


def _last_cut(
    kind: "regex.Pattern[str]", text: str, goal: int, back_to: int, n_ahead: int
) -> int | None:
    """Find the last place of one kind from `back_to` up to `goal`; it looks `n_ahead` beyond."""
    reach = 256
    while True:
        low = max(back_to, goal - reach)
        places = [int(found.start()) for found in kind.finditer(text, low, goal + n_ahead)]
        if places and places[-1] <= goal:
            return places[-1]
        if low == back_to:
            return None
        reach *= 8
