"""`groundup tokens`: a line of text as tokens, each with its id and bytes."""

from dataclasses import dataclass
from pathlib import Path

from groundup.base.errors import UserError, quoted
from groundup.cli.console import next_command, note, table
from groundup.cli.token_line import show_tokens
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.words import split_words


@dataclass(frozen=True, kw_only=True)
class TokensConfig:
    """Which tokenizer, which line."""

    data: Path = Path("data")
    """A data folder or a run folder: any folder with tokenizer/ inside, or a tokenizer itself."""
    text: str = "I HAD always thought Jack Gisburn rather a cheap genius"
    """The line to look at."""
    most: int = 40
    """How many tokens the table lists, at most."""


def run(config: TokensConfig) -> list[int]:
    """Show the line; give its ids."""
    if not config.text:
        raise UserError("the line is empty", need="some words", type_this='--text "Hello, world"')
    inside = config.data / "tokenizer"
    tokenizer = load_tokenizer(inside if inside.is_dir() else config.data)
    ids = tokenizer.encode(config.text)
    n_bytes = len(config.text.encode("utf-8"))
    words = split_words(config.text)
    note(f"{len(config.text)} characters, {len(words)} words, {len(ids)} tokens, {n_bytes} bytes")
    show_tokens([tokenizer.decode([index]) for index in ids])
    table(
        "",
        ["token", "id", "bytes"],
        [
            [repr(tokenizer.decode([i])), str(i), tokenizer.token_bytes(i).hex(" ")]
            for i in ids[: config.most]
        ],
    )
    if len(ids) > config.most:
        note(f"... and {len(ids) - config.most} more; --most {len(ids)} lists them all.")
    next_command(f"groundup windows {quoted(config.data)}")
    return ids
