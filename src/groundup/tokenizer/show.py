"""`tokens`: show a text as tokens, each with its id and bytes; in a notebook, in colors."""

from dataclasses import dataclass
from html import escape

from groundup.base.calling import takes_settings
from groundup.base.errors import UsageError
from groundup.base.run import RunFolder
from groundup.text.sample_line import validation_line
from groundup.tokenizer.config import TokensConfig
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.words import split_words

_DEFAULT_TEXT = "The quick brown fox jumps over the lazy dog"
_COLORS = ("234,179,8", "59,130,246", "34,197,94", "236,72,153", "139,92,246")


@dataclass(frozen=True)
class ShownTokens:
    """A text as tokens; a notebook displays it in colors."""

    ids: list[int]
    texts: list[str]
    hexes: list[str]

    def rows(self) -> list[tuple[int, str, str]]:
        """Return (id, text, bytes in hexadecimal) of each token."""
        return list(zip(self.ids, self.texts, self.hexes, strict=True))

    def __str__(self) -> str:
        """Separate the tokens by bars."""
        return "|".join(self.texts)

    def _repr_html_(self) -> str:
        spans = (token_html(i, text, hexed, n) for n, (i, text, hexed) in enumerate(self.rows()))
        count = f"<small>{len(self.ids)} tokens</small>"
        return f'<div style="line-height:2">{"".join(spans)}</div>{count}'


@dataclass(frozen=True, kw_only=True)
class TokensResult:
    """A text as tokens, and its size in other units."""

    tokens: ShownTokens
    n_characters: int
    n_words: int
    n_bytes: int


@takes_settings(TokensConfig, "data")
def tokens(config: TokensConfig) -> TokensResult:
    """Encode a text with the tokenizer of a folder.

    Raises:
        UserError: The text is empty, or there is no tokenizer.
    """
    text = _validation_line(config) if config.text is None else config.text
    if not text:
        raise UsageError("The text is empty.", settings={"text": "Hello, world"})
    inside = config.data / "tokenizer"
    tokenizer = load_tokenizer(inside if inside.is_dir() else config.data)
    return TokensResult(
        tokens=show_tokens(text, tokenizer),
        n_characters=len(text),
        n_words=len(split_words(text)),
        n_bytes=len(text.encode("utf-8")),
    )


def _validation_line(config: TokensConfig) -> str:
    """Find a line of the text that the tokenizer was made for."""
    run = RunFolder.of(config.data)
    known = [place for place, is_known in run.data_folders() if is_known]
    for data in (config.data, config.data.parent, *known):
        if line := validation_line(data):
            return line
    return _DEFAULT_TEXT


def show_tokens(text: str, tokenizer: Tokenizer) -> ShownTokens:
    """Encode a text and display it as tokens.

    >>> from groundup import train_bpe
    >>> str(show_tokens("ababc", train_bpe(["abab"], 261)))
    'ab|ab|c'
    """
    return shown_ids(tokenizer.encode(text), tokenizer)


def shown_ids(ids: list[int], tokenizer: Tokenizer) -> ShownTokens:
    """Decode ids one by one for display."""
    return ShownTokens(
        ids,
        [tokenizer.decode([index]) for index in ids],
        [tokenizer.token_bytes(index).hex(" ") for index in ids],
    )


def visible(token: str) -> str:
    r"""Replace white space by visible characters.

    >>> visible(" a\n\t")
    '·a⏎⇥'
    """
    return token.replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥")


def token_html(index: int, text: str, hexed: str, n: int) -> str:
    """Render a token as a colored span with visible white space; line feeds break the line."""
    shown = "⏎<br>".join(map(visible, escape(text).split("\n")))
    style = f"background:rgba({_COLORS[n % 5]},.28);border-radius:3px;padding:.1em .05em"
    return f'<span style="{style}" title="id {index}, bytes {hexed}">{shown}</span>'
