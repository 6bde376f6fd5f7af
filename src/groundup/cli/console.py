"""Output of the command line: headings, tables, notes, and a progress line for a long stage.

Color only on a terminal; plain lines when piped. Only `cli/` prints.
"""

import re
import sys
import time
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from groundup.base.duration import span
from groundup.base.errors import UserError, as_options, as_word, joined
from groundup.base.surrogates import without_surrogates
from groundup.cli.options import SHORT_OPTIONS, options_of
from groundup.cli.verbs import VERBS, Verb


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to `main`; rich would end the process."""
        raise


console = _Console(highlight=False, soft_wrap=False, emoji=False)
typed: list[str] = []
"""The arguments after `groundup`; `main` sets them."""
suggested: list[str] = []
"""Every command that was printed as one to type, for the tests, which parse them all."""


class _Style:
    is_brief = False
    """Whether a command is a stage of a story: it prints few lines, and no next command."""


style = _Style()
_PLAIN_EVERY_S, _BRIEF_EVERY_S = 10.0, 60.0
"""Seconds between two lines of progress where there is no terminal."""
_BRIEF_LINES = 3
"""Lines of a generated text that a story shows."""
_RECIPE = ("--config", "--recipe")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def harmless(text: str) -> str:
    r"""Replace control characters, and halves of surrogate pairs, with U+FFFD.

    Generated text must not control the terminal, and no terminal can show half of a pair.

    >>> harmless("red\x1b[31m and a\tline\n")
    'red�[31m and a\tline\n'
    """
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", without_surrogates(text))


def write(text: str) -> None:
    """Write immediately and not by rich, which would read brackets in an answer as markup."""
    sys.stdout.write(harmless(text))
    sys.stdout.flush()


def has_colors() -> bool:
    """Whether the screen shows colors: not with NO_COLOR, and not on a terminal that is dumb."""
    return console.color_system is not None and not console.no_color


def plural(count: int, noun: str) -> str:
    """Write a count and its noun.

    >>> plural(1, "document"), plural(2_000, "document")
    ('1 document', '2,000 documents')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def heading(title: str) -> None:
    """Print the heading of a stage."""
    console.print()
    console.rule(f"[bold]{escape(title)}", align="left", style="dim")


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table; columns of numbers are right-aligned, except the first."""
    # As a line of its own, a title may be wider than its table.
    if title:
        console.print(f"\n[italic]{escape(harmless(title))}[/italic]")
    view = Table(box=box.SIMPLE_HEAD, show_edge=not style.is_brief)
    for index, column in enumerate(columns):
        numbers = index > 0 and all(_is_number(row[index]) for row in rows)
        view.add_column(escape(column), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        view.add_row(*(escape(harmless(cell)) for cell in row))
    console.print(view)


def note(text: str) -> None:
    """Print a sentence."""
    console.print(escape(harmless(text)))


def warn(text: str) -> None:
    """Print a warning."""
    console.print(f"[yellow]![/yellow] {escape(harmless(text))}")


def passage(text: str) -> None:
    """Print a generated text as it is, and in a story only the beginning of it."""
    if not style.is_brief:
        console.print(harmless(text), markup=False, soft_wrap=True)
        return
    lines = [line for line in harmless(text).splitlines() if line.strip()]
    for line in lines[:_BRIEF_LINES]:
        console.print(f"  {line}", markup=False, no_wrap=True, overflow="ellipsis")


def next_command(command: str) -> None:
    """Print the next command to type."""
    suggested.append(command)
    if style.is_brief:
        return
    shown = escape(harmless(command))
    console.print(f"\n[dim]next:[/dim] [bold green]{shown}[/bold green]", soft_wrap=True)


def next_typed(options: Sequence[str]) -> None:
    """Print the command that was typed as the next one, with some options set to other values."""
    next_command(joined(["groundup", *retyped(typed, options)]))


_FRAME = (
    TextColumn("{task.description}", markup=False),
    BarColumn(bar_width=24),
    TaskProgressColumn(),
    TextColumn("{task.fields[words]}", markup=False),
    TimeElapsedColumn(),
)
_FRAME_WIDTH = 24 + 4 + 7 + 4
"""Columns of bar, percentage, time and the spaces between them."""


class Line:
    """The progress line of one long stage; its total is None where it is unknown."""

    def __init__(self, description: str, total: int | None) -> None:
        self.description, self.total = description, total
        self._bar: Progress | None = None
        self._printed_at = self._started_at = time.monotonic()

    def update(self, completed: int, *facts: str, **fields: str) -> None:
        """Set the progress to `completed`; facts and fields (rate, loss, eta) are beside the bar.

        On a terminal that is too narrow for both, the bar is dropped.
        """
        words = "  ".join([*facts, *(f"{name} {value}" for name, value in fields.items())])
        if self._bar is not None:
            narrow = len(self.description) + _FRAME_WIDTH + len(words) > console.width
            self._bar.columns = _FRAME[3:4] if narrow else _FRAME
            task = self._bar.task_ids[0]
            self._bar.update(task, completed=completed, total=self.total, words=words)
            return
        now = time.monotonic()
        is_last = self.total is not None and completed >= self.total and not style.is_brief
        every_s = _BRIEF_EVERY_S if style.is_brief else _PLAIN_EVERY_S
        if is_last or now - self._printed_at >= every_s:
            self._printed_at = now
            share = "" if self.total is None else f" {completed / max(1, self.total):4.0%}"
            print(f"{self.description}{share}  {words}", flush=True)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        console.print(escape(harmless(text)))

    def warn(self, text: str) -> None:
        """Print a warning above the bar."""
        warn(text)


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Line]:
    """Show a bar on a terminal, and plain lines at intervals elsewhere.

    FORCE_COLOR gives colors to a file, which cannot show a bar; nor can a terminal that is dumb.
    """
    line = Line(description, total)
    if not console.is_terminal or console.is_dumb_terminal or not console.file.isatty():
        yield line
        return
    with Progress(*_FRAME, console=console, refresh_per_second=4, transient=style.is_brief) as bar:
        task = bar.add_task(description, total=total, words="")
        line._bar = bar
        try:
            yield line
        except UserError:
            bar.update(task, visible=False)  # nothing but the error remains on the screen
            raise


@contextmanager
def stage_progress() -> Iterator[Callable[[str, int, int | None], None]]:
    """Yield a callback (stage, bytes done, bytes in total) that shows a line for each stage."""
    with ExitStack() as stack:
        stage, line, started_at = "", None, 0.0

        def report(name: str, done: int, total: int | None) -> None:
            nonlocal stage, line, started_at
            if name != stage:
                stack.close()
                stage, started_at = name, time.monotonic()
                line = stack.enter_context(progress(name, total))
            elapsed_s = max(1e-9, time.monotonic() - started_at)
            words = {"rate": f"{done / elapsed_s / 1e6:.1f} MB/s", "done": f"{done / 1e6:,.1f} MB"}
            if total and done:
                words["eta"] = span(elapsed_s * max(0, total - done) / done)
            assert line is not None
            line.update(done if total is None else min(done, total), **words)

        yield report


def error(mistake: UserError) -> None:
    """Print an error on stderr, with a complete command that helps if there is one."""
    command = command_that_helps(mistake)
    screen = Console(stderr=True, highlight=False, emoji=False)
    # On a terminal, words are not cut and the command has a line of its own, to be copied.
    separator = "\n" if screen.is_terminal else " "
    located = f"[red]error:[/red] {escape(harmless(mistake.located))}"
    screen.print(located, soft_wrap=not screen.is_terminal, end=separator if command else "\n")
    if command:
        screen.print(f"Try: {escape(harmless(command))}", soft_wrap=True)


def with_command(mistake: UserError) -> str:
    """Return the message of an error and the command that helps, on one line."""
    command = command_that_helps(mistake)
    return f"{mistake.located} Try: {command}" if command else mistake.located


def command_that_helps(mistake: UserError) -> str:
    """Return a complete command that helps; empty if there is none.

    Settings that help are set in the command that was typed, if it has options for all of them:
    `groundup story` runs stages whose settings it does not have.
    """
    verb = next((verb for verb in VERBS if typed[:1] == [verb.name]), None)
    settings = mistake.settings
    if settings and verb is not None and settings.keys() <= options_of(verb.config_class()).keys():
        others = {name: value for name, value in settings.items() if name != verb.positional}
        words = retyped(typed, as_options(others))
        if verb.positional in settings:
            words = with_positional(words, verb, str(settings[verb.positional]))
        suggested.append(joined(["groundup", *words]))
        return suggested[-1]
    if mistake.command:
        suggested.append(mistake.command)
    return mistake.command


def retyped(words: Sequence[str], options: Sequence[str]) -> list[str]:
    """Return the arguments of a command with some options set to other values.

    >>> retyped(["plan", "data", "--steps", "9", "--bias"], ["--no-bias", "--steps", "5"])
    ['plan', 'data', '--no-bias', '--steps', '5']
    >>> retyped(["evaluate", "--canary", "a", "b", "--stride", "9", "run"], ["--canary", "c"])
    ['evaluate', 'run', '--stride', '9', '--canary', 'c']
    """
    if not options:
        return list(words)
    changed = {_setting(_long_name(word)[0]) for word in options if word[:2] == "--"}
    parts = _parts(words)
    # A list of values would take a word after it, so that the words without an option come first.
    kept = [part for name, part in parts if not name]
    kept += [part for name, part in parts if name and _setting(name) not in changed]
    return [*chain.from_iterable(kept), *options]


def with_positional(words: Sequence[str], verb: Verb, value: str) -> list[str]:
    """Put a value in the place of the positional argument of a command.

    A recipe that is there is named by its option instead.
    """
    option = _option(str(verb.positional))
    kind = options_of(verb.config_class())[str(verb.positional)].kind
    parts = _parts(words)[1:]
    recipe = [part[0] for name, part in parts if not name and part[0].endswith(".toml")]
    if typing.get_origin(kind.type) is tuple or any(name in _RECIPE for name, _ in parts):
        recipe = []
    elif recipe:
        recipe = ["--config", recipe[0]]
    if kind.type is Path:
        value = as_word(Path(value))
    kept = [part for name, part in parts if name not in ("", option)]
    return [words[0], value, *recipe, *chain.from_iterable(kept)]


def _parts(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Split the arguments of a command as in `typed`: the long name of each option, and its words.

    A word that belongs to no option has an empty name.
    """
    verb = next((verb for verb in VERBS if words[:1] == [verb.name]), None)
    options = {} if verb is None else options_of(verb.config_class())
    kinds = {_option(name): leaf.kind for name, leaf in options.items()}
    parts, index = [("", list(words[:1]))], 1
    while index < len(words):
        end = index + 1
        name, has_value = _long_name(words[index])
        kind = kinds.get(name)
        if kind is not None and typing.get_origin(kind.type) is tuple and not has_value:
            while end < len(words) and not _long_name(words[end])[0]:
                end += 1
        elif name in _RECIPE or (kind is not None and kind.type is not bool):
            end += not has_value
        parts.append((name, list(words[index:end])))
        index = end
    return parts


def _long_name(word: str) -> tuple[str, bool]:
    """The name of an option, and whether its value is in the same word. Empty: it is no option."""
    if word[:1] != "-" or word == "-":
        return "", False
    if word[:2] in SHORT_OPTIONS:
        return SHORT_OPTIONS[word[:2]], len(word) > 2
    name, equals, _ = word.partition("=")
    return name, bool(equals)


def _setting(option: str) -> str:
    return option.removeprefix("--").removeprefix("no-")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _is_number(cell: str) -> bool:
    body = cell.strip().rstrip("%s").replace(",", "").replace(" ", "").lstrip("+-~")
    return body[:1].isdigit() or not body
