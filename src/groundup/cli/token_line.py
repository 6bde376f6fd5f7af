"""A line of text with each token in a colour of its own, readable without colour too."""

from rich.text import Text

from groundup.cli.console import console

_COLOURS = ("on dark_green", "on dark_blue", "on purple4", "on dark_red", "on dark_goldenrod")


def show_tokens(tokens: list[str]) -> None:
    """Print tokens side by side; where there is no colour, a thin bar stands between them."""
    line = Text()
    for index, token in enumerate(tokens):
        shown = token.replace("\n", "⏎").replace("\t", "⇥")
        if console.is_terminal:
            line.append(shown, style=f"white {_COLOURS[index % len(_COLOURS)]}")
        else:
            line.append(("|" if index else "") + shown)
    console.print(line)
