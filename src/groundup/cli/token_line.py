"""Print a line of text with its tokens in different colors, or separated by bars."""

from rich.text import Text

from groundup.cli.console import console, harmless, has_colors

_COLORS = ("on dark_green", "on dark_blue", "on purple4", "on dark_red", "on dark_goldenrod")


def print_tokens(tokens: list[str]) -> None:
    """Print tokens side by side; a bar separates them where there is no color."""
    line = Text()
    for index, token in enumerate(tokens):
        shown = harmless(token.replace("\n", "⏎").replace("\t", "⇥"))
        if has_colors():
            line.append(shown, style=f"white {_COLORS[index % len(_COLORS)]}")
        else:
            line.append(("|" if index else "") + shown)
    console.print(line)
