"""What reaches the screen is what was written, on a terminal and in a file."""

import io

import pytest
from rich.color import ColorSystem

from groundup.base.errors import UserError
from groundup.cli import console
from groundup.cli.token_line import print_tokens
from groundup.cli.trained_tokens import show_tokens
from groundup.finetune.instruct.rows import ShownToken

TEXT = "root:x:0:0 :smile: [red] \\[bold]"
"""rich has an emoji for `:x:` and a color for `[red]`."""


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What the console of the product writes to a terminal of 200 columns."""
    screen = io.StringIO()
    monkeypatch.setattr(console.console, "_file", screen)
    monkeypatch.setattr(console.console, "_force_terminal", True)
    monkeypatch.setattr(console.console, "width", 200)
    monkeypatch.setattr(screen, "isatty", lambda: True)
    return screen


def test_a_text_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    for show in (console.note, console.warn, console.passage, console.heading):
        show(TEXT)
        assert TEXT in capsys.readouterr().out, show
    console.next_command(f"groundup generate --prompt '{TEXT}'")
    console.table(TEXT, ["a", "b"], [["1", TEXT]])
    assert capsys.readouterr().out.count(TEXT) == 3
    console.suggested.clear()
    console.error(UserError(TEXT, where=":x:"))
    assert capsys.readouterr().err == f"error: :x:: {TEXT}\n"


def test_a_text_beside_a_bar_is_shown_as_it_is(terminal: io.StringIO) -> None:
    with console.progress(f"evaluate {TEXT}", 2) as line:
        line.update(1, f"run {TEXT}")
    assert terminal.getvalue().count(TEXT) >= 2


@pytest.mark.parametrize(
    ("colors", "no_color"),
    [
        (ColorSystem.STANDARD, False),
        (ColorSystem.STANDARD, True),  # with NO_COLOR
        (None, False),  # with TERM=dumb
    ],
)
def test_tokens_are_told_apart_with_and_without_colors(
    colors: ColorSystem | None,
    no_color: bool,
    terminal: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(console.console, "_color_system", colors)
    monkeypatch.setattr(console.console, "no_color", no_color)
    print_tokens(["a", "b"])
    tokens = [
        ShownToken(index=5, text="c", is_trained=False),
        ShownToken(index=6, text="d", is_trained=True),
    ]
    show_tokens([("", tokens)])
    screen = terminal.getvalue()
    if colors is not None and not no_color:
        assert screen.count("\x1b[") > 4
        assert "a|b" not in screen
    else:
        assert "a|b" in screen
        assert "-      5 'c'\n+      6 'd'\n" in capsys.readouterr().out
