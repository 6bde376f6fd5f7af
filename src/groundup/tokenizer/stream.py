r"""Encode a text that arrives in chunks: the ids of the complete text, in little memory.

Text is held back until nothing that follows can change its ids: until it is certain that no special
token begins in it, and that its pretokens end where they end. A text with no such place (one word
of a gigabyte; any text, for a pattern with anchors or lookbehind) is held until its end.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Literal

import regex

from groundup.text.pieces import safe_cut
from groundup.tokenizer.dialect import looks_one_ahead
from groundup.tokenizer.pretokens import PATTERNS, compile_pattern, splitter
from groundup.tokenizer.special import allowed_names

_BLOCK_CHARACTERS = 2**13
"""Number of characters that are looked at together."""

Cut = Callable[[str], list[str]]
"""From a text to pieces, from its beginning on, each of which is encoded by itself."""


def encode_chunks(
    chunks: Iterable[str],
    special_tokens: Mapping[str, int],
    allowed: AbstractSet[str] | Literal["all"],
    *,
    cut: Cut,
    cut_settled: Cut,
    encode: Callable[[str], Iterable[int]],
) -> Iterator[int]:
    """Encode chunks of one text as ids, wherever they were cut.

    Args:
        chunks: Strings that join to the text.
        special_tokens: Special tokens and their ids.
        allowed: Those that are special in this text.
        cut: Cuts a complete text without special tokens.
        cut_settled: Cuts as much of a text as stays the same whatever follows.
        encode: Encodes one piece.
    """
    names = allowed_names(special_tokens, allowed)
    find = regex.compile("|".join(map(regex.escape, names))).search if names else None
    overlap = max(map(len, names), default=1) - 1
    held, looked = "", 0  # text without ids; how many of its characters begin no special token
    goal = _BLOCK_CHARACTERS
    for block, is_last in _blocks(chunks):
        held += block
        found = None
        while find and (found := find(held, looked)):
            if not is_last and found.start() + overlap >= len(held):
                break  # with more text, a longer name might begin here
            for piece in cut(held[: found.start()]):
                yield from encode(piece)
            yield special_tokens[found.group()]
            held, looked, goal = held[found.end() :], 0, _BLOCK_CHARACTERS
        if is_last:
            for piece in cut(held):
                yield from encode(piece)
            return
        looked = found.start() if found else max(looked, len(held) - overlap)
        if looked < goal:
            continue
        n_settled = 0
        for piece in cut_settled(held[:looked]):
            yield from encode(piece)
            n_settled += len(piece)
        held, looked = held[n_settled:], looked - n_settled
        # Unbroken text is looked at again when it has doubled, so that the time stays linear.
        goal = max(_BLOCK_CHARACTERS, 2 * looked)


def _blocks(chunks: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Cut or join chunks into blocks; the last one is marked."""
    waiting: list[str] = []
    n = 0
    for chunk in chunks:
        for start in range(0, len(chunk), _BLOCK_CHARACTERS):
            waiting.append(chunk[start : start + _BLOCK_CHARACTERS])
            n += len(waiting[-1])
            if n >= _BLOCK_CHARACTERS:
                yield "".join(waiting), False
                waiting, n = [], 0
    yield "".join(waiting), True


def settled_by(pattern: str) -> Cut:
    """Return the function that cuts as much of a text as is cut the same, whatever follows."""
    split = splitter(pattern)
    if pattern in PATTERNS.values():
        return lambda text: _cut_by_named(text, split)
    if not looks_one_ahead(pattern):
        return lambda text: []
    compiled = compile_pattern(pattern)
    return lambda text: _before_open_match(text, split(text), compiled)


def _cut_by_named(text: str, split: Cut) -> list[str]:
    """Cut by a named pattern, up to the last place where documents are cut into pieces.

    Where there is none, all but the white space at the end and the pretoken before it: pretokens
    depend on the run of characters they end in, and on one character more.
    """
    place = safe_cut(text, len(text))
    if place:
        return split(text[:place])
    pieces = split(text)
    n_open = len(text) - len(text.rstrip())
    while pieces and n_open >= 0:
        n_open -= len(pieces.pop())
    return pieces


def _before_open_match(text: str, pieces: list[str], compiled: Any) -> list[str]:
    """Return the pieces before the first place from where a match might go beyond the text."""
    at = 0
    for number, piece in enumerate(pieces):
        beyond = at + len(piece)
        matched = compiled.match(text, at)
        is_match = matched is not None and matched.end() == beyond
        # Between matches, every place was tried, and the match behind ends the piece.
        for place in range(at, at + 1 if is_match else beyond + 1):
            if place >= len(text) or compiled.fullmatch(text, place, partial=True):
                return pieces[:number]
        at = beyond
    return pieces
