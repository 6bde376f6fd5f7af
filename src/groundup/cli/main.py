"""The command line: find the command, read its options and run it.

A command's package is imported only when the command runs, so that `--help` does not import torch.
"""

import atexit
import gc
import importlib
import io
import logging
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from groundup.base.errors import UsageError, UserError, joined
from groundup.base.files import clean_up_interrupted
from groundup.cli.interrupts import Interrupts, handled_interrupts
from groundup.cli.streams import accept_all_text, guarded, open_closed_streams
from groundup.cli.verbs import VERBS, Verb, call

if TYPE_CHECKING:
    from cyclopts import App

_SHELLS = ("bash", "zsh", "fish")
_COMPLETION_HELP = """Usage: groundup completion bash|zsh|fish

Print the completion script of a shell. To install it, type one of these lines:

  groundup completion bash > ~/.local/share/bash-completion/completions/groundup
  groundup completion zsh > "${fpath[1]}/_groundup"
  groundup completion fish > ~/.config/fish/completions/groundup.fish

and open a new shell."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Return the exit status.

    Returns:
        0: done; 1: the command failed, or a rule of `doctor`; 2: the command line is wrong; 130:
        interrupted.
    """
    accept_all_text()
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"groundup {_version()}")
        return 0
    with handled_interrupts() as interrupts:
        return _command(words, interrupts)


def _command(words: list[str], interrupts: Interrupts) -> int:
    """Find a command, run it and return the exit status."""
    from groundup.cli import console

    # Only warnings are printed; the log file of a run gets all messages.
    logging.getLogger("groundup").setLevel(logging.INFO)
    screen = _Screen()
    logging.basicConfig(handlers=[screen], format="%(levelname)s: %(message)s")
    # Of the processes that torchrun starts, only the first one prints.
    console.console.quiet = int(os.environ.get("RANK", "0")) > 0
    try:
        if words[0] == "completion":
            print(_completion(words[1:]))
            return 0
        verb = _find(words[0])
    except UserError as mistake:
        console.error(mistake)
        return 2
    try:
        return _run(verb, words, interrupts)
    finally:
        screen.print_rest()


def _run(verb: Verb, words: list[str], interrupts: Interrupts) -> int:
    """Run a command and return the exit status."""
    from groundup.cli import console
    from groundup.cli.places import refuse_unwritable

    try:
        try:
            parsed = _parse(verb, words)
        except UserError as mistake:
            console.error(mistake)
            return 2
        if parsed is None:  # its help was printed
            return 0
        refuse_unwritable(verb, parsed[0])
        importlib.import_module(verb.view.split(":")[0])
        with interrupts.raised():
            result = call(verb.name, *parsed)
    except KeyboardInterrupt:
        return _stopped(verb, words)
    except Exception as error:
        if interrupts.asked:  # code in C has turned the interrupt into this error
            return _stopped(verb, words)
        if isinstance(error, BrokenPipeError):
            return 0
        if isinstance(error, OSError):
            error = _of_file(error)
        if not isinstance(error, UserError):
            raise
        console.error(error)
        return 2 if isinstance(error, UsageError) else 1
    return int(verb.is_check and bool(result.findings))


def _stopped(verb: Verb, words: list[str]) -> int:
    """Print how to go on after an interruption."""
    clean_up_interrupted()
    command = joined(["groundup", *words])
    resumes = verb.resumable or any(
        word.split("=")[0] == f"--{verb.resumable_with}" for word in words
    )
    what = "resumes it" if resumes else "starts again from the beginning"
    print(f"\nStopped. The same command {what}: {command}", file=sys.stderr)
    return 130


class _Screen(logging.Handler):
    """Print each warning once, above a progress bar."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._printed: set[str] = set()
        self._rest: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Print to the current stderr, which a progress bar replaces."""
        text = self.format(record)
        if text in self._printed:
            return
        self._printed.add(text)
        if record.name == "groundup.base.results":  # the results themselves go first
            self._rest.append(text)
        else:
            print(text, file=sys.stderr)

    def print_rest(self) -> None:
        """Print the warnings that come after the results."""
        while self._rest:
            print(self._rest.pop(0), file=sys.stderr)


def _of_file(error: OSError) -> UserError:
    """A file that cannot be read or written, where the library has no better words for it."""
    what = "This file cannot be opened" if error.filename else "The command failed"
    where = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else None
    return UserError(f"{what} ({error.strerror or error}).", where=where)


def _overview() -> str:
    lines = [
        "groundup: from raw text to a language model that answers, on your machine.",
        "",
        "Usage: groundup COMMAND [OPTIONS]",
    ]
    stage = ""
    for verb in VERBS:
        if verb.stage != stage:
            stage = verb.stage
            lines.append(f"{stage}:")
        lines.append(f"  {verb.name:<16} {verb.help}")
    return "\n".join(
        [
            *lines,
            "",
            "Start with: groundup story (or: groundup story my.txt)",
            "Help: groundup COMMAND --help. Shell completion: groundup completion --help",
        ]
    )


def make_app() -> "App":
    """Make the parser of all commands. The options of a command are made when they are needed."""
    from cyclopts import App

    app = App(
        name="groundup",
        help="From raw text to a language model that answers, on your machine.",
        version=_version,
        version_flags=["--version", "-V"],
        help_format="plaintext",
        print_error=False,
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    for place, verb in enumerate(VERBS):
        several = "..." if verb.positional in ("sources", "runs") else ""
        first = f" [{verb.positional.upper()}{several}]" if verb.positional else ""
        app.command(
            f"groundup.cli.commands:{verb.name.replace('-', '_')}",
            name=verb.name,
            group=verb.stage,
            help=verb.help,
            sort_key=place,
            usage=f"Usage: groundup {verb.name} [OPTIONS]{first}",
        )
    return app


def _find(name: str) -> Verb:
    for verb in VERBS:
        if verb.name == name:
            return verb
    from groundup.cli.mistakes import unknown_command

    raise unknown_command(name)


def _parse(verb: Verb, words: list[str]) -> tuple[Any, frozenset[str]] | None:
    """Read the options of a command: its config, and the names of the settings that were given.

    Returns None if the help was printed.
    """
    from cyclopts import CycloptsError

    from groundup.cli import console
    from groundup.cli.arguments import refuse_empty_paths, with_recipe, with_values
    from groundup.cli.mistakes import as_user_error, with_current_options
    from groundup.cli.options import HYPHEN, options_of

    options = options_of(verb.config_class())
    words = with_values(with_current_options(words, options), options)
    words = with_recipe(words, verb.positional)
    refuse_empty_paths(words, options, verb.positional)
    console.typed[:] = words
    try:
        parsed: tuple[Any, frozenset[str]] | None = make_app()(
            [HYPHEN if word == "-" else word for word in words]
        )
    except CycloptsError as error:
        raise as_user_error(error, words) from error
    return parsed


def _completion(words: list[str]) -> str:
    if words[:1] and words[0] in _SHELLS:
        shell: Any = words[0]
        return make_app().generate_completion(shell=shell)
    if not words or words[0] in ("-h", "--help"):
        return _COMPLETION_HELP
    raise UserError(
        f"There is no completion for {words[0]!r}. The shells are {', '.join(_SHELLS)}.",
        command="groundup completion --help",
    )


def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version("groundup")


def script() -> None:
    """Run as the console script, and save the time of garbage collection (about a second).

    Importing torch creates hundreds of thousands of objects. They live until the
    end, so garbage collection starts only when `call` has imported everything, and the process
    exits without destroying each object.
    """
    gc.disable()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Before and after `main`, Ctrl-C ends the process without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    open_closed_streams()
    assert isinstance(sys.stdout, io.TextIOWrapper)
    assert isinstance(sys.stderr, io.TextIOWrapper)
    sys.stdout, guard = guarded(sys.stdout)
    sys.stderr, _ = guarded(sys.stderr)
    statuses: list[int] = []

    def leave() -> None:
        for status in statuses:  # empty after an exception: then Python prints it
            _flush()
            with suppress(OSError, ValueError):
                if guard.failure is not None:
                    why = guard.failure.strerror
                    print(f"error: The output cannot be written ({why}).", file=sys.stderr)
                sys.stderr.flush()
            os._exit(status or int(guard.failure is not None))

    atexit.register(leave)  # the first to be registered runs last
    try:
        statuses.append(main())
    except BrokenPipeError:
        statuses.append(0)
    _flush()
    sys.exit(statuses[0])


def _flush() -> None:
    """Write the rest of the output."""
    with suppress(BrokenPipeError, ValueError):  # the reader of a pipe has closed it
        sys.stdout.flush()


if __name__ == "__main__":
    script()
