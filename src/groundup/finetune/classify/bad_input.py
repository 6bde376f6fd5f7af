"""Errors about the texts and labels that a user gives, which end a command with exit code 2."""

from collections.abc import Iterator
from contextlib import contextmanager

from groundup.base.errors import UsageError, UserError


@contextmanager
def as_usage_error() -> Iterator[None]:
    """Raise every UserError of the block as a UsageError with the same parts."""
    try:
        yield
    except UserError as error:
        raise UsageError(
            error.message, where=error.where, command=error.command, settings=error.settings
        ) from error
