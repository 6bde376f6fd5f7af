"""Tokens in a notebook: coloured, with id and bytes where one points."""

from dataclasses import dataclass
from html import escape

from groundup.tokenizer.protocol import Tokenizer

_COLOURS = ("234,179,8", "59,130,246", "34,197,94", "236,72,153", "139,92,246")


@dataclass(frozen=True)
class ShownTokens:
    """A text as tokens; the last expression of a notebook cell shows it."""

    ids: list[int]
    texts: list[str]
    hexes: list[str]

    def rows(self) -> list[tuple[int, str, str]]:
        """Give (id, text, bytes in hexadecimal) of each token."""
        return list(zip(self.ids, self.texts, self.hexes, strict=True))

    def __str__(self) -> str:
        """Set the tokens apart by bars."""
        return "|".join(self.texts)

    def _repr_html_(self) -> str:
        spans = (token_html(i, text, hexed, n) for n, (i, text, hexed) in enumerate(self.rows()))
        count = f"<small>{len(self.ids)} tokens</small>"
        return f'<div style="line-height:2">{"".join(spans)}</div>{count}'


def show_tokens(text: str, tokenizer: Tokenizer) -> ShownTokens:
    """Encode a text for the eye.

    >>> from groundup import train_bpe
    >>> str(show_tokens("ababc", train_bpe(["abab"], 261)))
    'ab|ab|c'
    """
    return shown_ids(tokenizer.encode(text), tokenizer)


def shown_ids(ids: list[int], tokenizer: Tokenizer) -> ShownTokens:
    """Decode ids one by one for the eye."""
    return ShownTokens(
        ids,
        [tokenizer.decode([index]) for index in ids],
        [tokenizer.token_bytes(index).hex(" ") for index in ids],
    )


def visible(token: str) -> str:
    r"""Give white space a shape.

    >>> visible(" a\n\t")
    '·a⏎⇥'
    """
    return token.replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥")


def token_html(index: int, text: str, hexed: str, n: int) -> str:
    """Give one token as a coloured span; white space is visible, and a line feed ends a line."""
    shown = "⏎<br>".join(map(visible, escape(text).split("\n")))
    style = f"background:rgba({_COLOURS[n % 5]},.28);border-radius:3px;padding:.1em .05em"
    return f'<span style="{style}" title="id {index}, bytes {hexed}">{shown}</span>'
