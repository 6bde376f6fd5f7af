"""Read all records of a file; leave out those that are not valid, if that is wanted."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from groundup.base.errors import UsageError, UserError
from groundup.text.config import FileConfig
from groundup.text.left_out import LeftOut
from groundup.text.records import EmptyError, NullError, Record, read_records

T = TypeVar("T")

PARTS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
"""Names of the sets in a column, and what they mean."""


class InvalidRowError(UsageError):
    """A record that cannot be trained on; the others may be."""

    def __init__(self, message: str, *, where: str) -> None:
        super().__init__(message, where=where, settings={"skip_invalid": True})


def read_all(
    word: str | Path,
    parse: Callable[[Record], T],
    config: FileConfig | None,
    *,
    fields: Sequence[str],
    noun: str,
    skip_invalid: bool = False,
    left_out: LeftOut | None = None,
) -> list[T]:
    """Read the records of a file, of the files of a folder, or of any other source.

    Args:
        word: The source (see `text/sources.py`).
        parse: Turns a record into a row.
        config: The format and encoding of the file. None: the defaults.
        fields: The fields that `parse` asks for.
        noun: What a row is, in the plural.
        skip_invalid: Leave out rows that are not valid, instead of refusing the file.
        left_out: Counts what is left out.

    Raises:
        UserError: The file is missing or malformed, a record is not valid, or there are none.
    """
    config = FileConfig() if config is None else config
    left_out = LeftOut() if left_out is None else left_out
    found: list[T] = []
    first_error: UserError | None = None
    for record in read_records(str(word), config, fields=fields, left_out=left_out):
        try:
            found.append(parse(record))
        except UserError as error:
            is_empty = isinstance(error, EmptyError | NullError)
            if not (skip_invalid or (is_empty and config.skip_empty)):
                raise _usage_error(error) from error
            first_error = first_error or error
            reason = "with an empty part" if is_empty else "that are not valid"
            left_out.add(f"{noun} {reason}", _place(record, error))
    if not found:
        if first_error is not None:
            raise _usage_error(first_error)
        raise UsageError(f"There are no {noun}. At least one is expected.", where=word)
    return found


def part_of(record: Record, split_column: str | None) -> str:
    """Return the set that a record names, or an empty string if no column is asked for.

    Raises:
        UserError: The column is missing.
        UsageError: It contains another name.
    """
    if split_column is None:
        return ""
    name = record.text(split_column).strip()
    if name.lower() not in PARTS:
        raise UsageError(
            f"The column {split_column!r} contains {name!r}. One of train, validation and test is "
            "expected.",
            where=record.where,
        )
    return PARTS[name.lower()]


def _usage_error(error: UserError) -> UsageError:
    """The same error; a record that is not valid is a wrong argument."""
    if isinstance(error, UsageError):
        return error
    return UsageError(error.message, where=error.where, settings=error.settings)


def _place(record: Record, error: UserError) -> str:
    return f"{record.name}: {error.message.split('. ')[0]}"
