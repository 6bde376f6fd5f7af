"""What the views of `classify` and `instruct` share."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from groundup.base.errors import UserError, quoted
from groundup.base.run import RunFolder
from groundup.cli.console import next_command
from groundup.evaluation.run_data import data_of


@contextmanager
def shown(folder: Path) -> Iterator[None]:
    """Print a result; if that fails, write on stderr where the model is saved."""
    try:
        yield
    except BrokenPipeError:  # the reader of a pipe has closed it
        raise
    except (OSError, ValueError, RuntimeError) as error:
        text = f"The result cannot be printed ({error}). The model is saved in {folder}."
        print(text.encode("ascii", errors="backslashreplace").decode(), file=sys.stderr)


def next_stage(command: str, run: Path, otherwise: str) -> None:
    """Print a command that makes its examples from the documents of the run, if there are any."""
    try:
        data_of(RunFolder.of(run))
    except UserError:
        next_command(otherwise)
    else:
        next_command(f"groundup {command} {quoted(run)}")
