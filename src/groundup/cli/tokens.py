"""`groundup tokens`: a text as tokens, each with its id and bytes."""

from pathlib import Path

from groundup.base.errors import quoted
from groundup.base.folder_kinds import data_with_stores
from groundup.base.run import RunFolder
from groundup.cli.console import next_command, note, table
from groundup.cli.token_line import print_tokens
from groundup.tokenizer.config import TokensConfig
from groundup.tokenizer.show import TokensResult, tokens


def run(config: TokensConfig) -> TokensResult:
    """Print the tokens of a text."""
    result = tokens(config)
    shown = result.tokens
    note(
        f"{result.n_characters} characters, {result.n_words} words, {len(shown.ids)} tokens, "
        f"{result.n_bytes} bytes"
    )
    print_tokens(shown.texts)
    rows = [[repr(text), str(index), hexed] for index, text, hexed in shown.rows()]
    table("", ["token", "id", "bytes"], rows[: config.most])
    if len(rows) > config.most:
        note(f"... and {len(rows) - config.most} more; --most {len(rows)} lists all of them.")
    _next(config.data)
    return result


def _next(place: Path) -> None:
    run, data = RunFolder.of(place), data_with_stores(place)
    if data is not None:  # that of a story is inside its run
        next_command(f"groundup windows {quoted(data)}")
    elif run.checkpoints():
        next_command(f"groundup generate {quoted(run.path)}")
