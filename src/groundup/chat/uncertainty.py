"""Where a model was least certain: tokens of its answer, and the tokens that it nearly chose."""

import heapq
import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from groundup.generation.sampler import Token

N_ALTERNATIVES = 3
_N_SHOWN = 5
_PLACE, _ALTERNATIVE = 26, 10
"""Columns of a token with the text before it, and of an alternative; the lines have 80."""


@dataclass(frozen=True)
class UncertainToken:
    """A token of an answer, with its probability before temperature and cuts."""

    before: str
    """The text of the answer before it."""
    text: str
    probability: float
    alternatives: tuple[tuple[str, float], ...]
    """The most likely other tokens and their probabilities."""


def least_certain(
    tokens: Sequence[Token], token_bytes: Callable[[int], bytes], n: int = _N_SHOWN
) -> list[UncertainToken]:
    """Find the tokens with the smallest probabilities, in the order of the text.

    Args:
        tokens: The tokens of an answer, with log-probabilities.
        token_bytes: The bytes of one token.
        n: Number of tokens to find.
    """
    known = [(i, token.logprobs) for i, token in enumerate(tokens) if token.logprobs is not None]
    found = []
    for i, logprobs in sorted(heapq.nsmallest(n, known, key=lambda each: each[1].drawn)):
        alternatives = [(k, p) for k, p in logprobs.top if k != tokens[i].id][:N_ALTERNATIVES]
        before = b"".join(token_bytes(token.id) for token in tokens[:i])
        found.append(
            UncertainToken(
                before=before.decode("utf-8", "replace"),
                text=_text(token_bytes(tokens[i].id)),
                probability=math.exp(logprobs.drawn),
                alternatives=tuple((_text(token_bytes(k)), math.exp(p)) for k, p in alternatives),
            )
        )
    return found


def as_lines(found: Sequence[UncertainToken]) -> str:
    """Write tokens as a table of 80 columns.

    >>> token = UncertainToken("The capital is", "' Rome'", 0.31, (("' Paris'", 0.3), ("'a'", 0.0)))
    >>> print(as_lines([token]).splitlines()[-1])
        The capital is ' Rome'  31 % ' Paris'   30 % 'a'         0 %
    """
    lines = [_row("text and token", "prob", [("instead", "prob")] * N_ALTERNATIVES)]
    for token in found:
        text = _cut(token.text, _ALTERNATIVE)
        before = token.before[-4 * _PLACE :].replace("\n", "⏎").replace("\t", "⇥")
        while _width(before) + 1 + _width(text) > _PLACE:
            before = before[1:]
        others = [(_cut(other, _ALTERNATIVE), _percent(p)) for other, p in token.alternatives]
        lines.append(_row(f"{before} {text}", _percent(token.probability), others))
    return "\n".join(lines)


def _row(place: str, probability: str, alternatives: Sequence[tuple[str, str]]) -> str:
    cells = [" " * (_PLACE - _width(place)) + place + f"{probability:>6}"]
    cells += [f"{text}{' ' * (_ALTERNATIVE - _width(text))}{p:>5}" for text, p in alternatives]
    return " ".join(cells).rstrip()


def _percent(probability: float) -> str:
    return f"{100 * probability:.0f} %"


def _text(data: bytes) -> str:
    """Write a token as Python does, or the bytes of a part of a character."""
    try:
        return repr(data.decode("utf-8"))
    except UnicodeDecodeError:
        return repr(data)


def _cut(text: str, width: int) -> str:
    """Shorten a text to a number of columns.

    >>> _cut("' international'", 10)
    "' interna…"
    """
    if _width(text) <= width:
        return text
    while _width(text) >= width:
        text = text[:-1]
    return f"{text}…"


def _width(text: str) -> int:
    """The columns of a text on a terminal."""
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )
