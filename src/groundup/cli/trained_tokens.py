"""Print the tokens of training records with those that are trained marked."""

from collections.abc import Sequence

from rich.text import Text

from groundup.cli.console import console, harmless, has_colors, heading, note
from groundup.finetune.instruct.rows import ShownToken


def show_tokens(records: Sequence[tuple[str, list[ShownToken]]]) -> None:
    """Print each record: in color if the screen has colors, and otherwise one token per line.

    A line begins with + where the token is trained, and with - where it is not.
    """
    for number, (where, tokens) in enumerate(records, 1):
        n_trained = sum(token.is_trained for token in tokens)
        title = f"record {number}: {len(tokens)} tokens, {n_trained} trained"
        if not has_colors():
            print(f"{title} ({where})" if where else title)
            for token in tokens:
                print(f"{'+' if token.is_trained else '-'} {token.index:>6} {token.text!r}")
            continue
        heading(title)
        line = Text()
        for token in tokens:
            style = "white on dark_green" if token.is_trained else "dim"
            line.append(harmless(token.text.replace("\n", "⏎")), style=style)
            line.append("|", style="dim")
        console.print(line)
    if has_colors():
        note("\nGreen: trained. Gray: read, but not trained. A bar separates tokens.")
