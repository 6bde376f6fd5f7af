"""The format of `metrics.jsonl`: one JSON object per step, numbers only, units in the names."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from groundup.base.errors import UserError
from groundup.base.files import in_place

_LARGEST = 1e100
"""A line with a larger number, or with infinity, is corrupt."""


def append_metrics(path: Path, values: dict[str, Any]) -> None:
    """Append one line.

    Raises:
        UserError: The disk is full or not writable.
    """
    with (
        in_place(path.parent, "the lines written before are intact"),
        open(path, "a", encoding="utf-8") as file,
    ):
        file.write(json.dumps(values) + "\n")


def read_metrics(path: Path, names: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Read all valid lines; a line that is corrupt, or was cut off by a crash, is skipped.

    Args:
        path: The file.
        names: Keys that a line must have, beside `step`.

    Raises:
        UserError: The file cannot be read.
    """
    rows = (_parse(line) for line in _lines(path))
    return [row for row in rows if row is not None and row.keys() >= set(names)]


def corrupt_metrics(path: Path, names: Iterable[str] = ()) -> list[int]:
    """List the numbers of the lines that `read_metrics` skips.

    A last line that was cut off is not one of them: a killed process leaves it.

    Raises:
        UserError: The file cannot be read.
    """
    needed = set(names)
    return [
        number
        for number, line in enumerate(_lines(path)[:-1], start=1)
        if line.strip() and not (_parse(line) or {}).keys() >= {"step", *needed}
    ]


def _lines(path: Path) -> list[str]:
    """Read the lines; after the last newline comes what was cut off, or an empty string."""
    if not path.exists():
        return [""]
    try:
        return path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise UserError(f"This file cannot be read ({error.strerror}).", where=path) from error


def _parse(line: str) -> dict[str, Any] | None:
    """Parse one line: a step and numbers. None: the line is corrupt."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        return None
    numbers = (type(value) in (int, float) and abs(value) < _LARGEST for value in row.values())
    return row if all(numbers) else None
