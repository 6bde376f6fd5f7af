r"""JSON lines: a file with one JSON value per line. Every error names the line.

Lines end at a line feed and nowhere else: a JSON string may contain U+2028 or U+0085, at which
`str.splitlines` would cut.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from groundup.base.errors import UserError


def read_json_lines(path: Path | str, *, encoding: str = "utf-8") -> Iterator[tuple[int, Any]]:
    """Read a file of JSON lines as (line number, value).

    Numbers start at 1; blank lines are skipped.

    Raises:
        UserError: The file cannot be read, is not in this encoding, or a line is not JSON.
    """
    number = 0
    try:
        with open(path, encoding=encoding, newline="\n") as file:
            for number, value in parse_json_lines(file, where=path):
                yield number, value
    except OSError as error:
        raise UserError(f"This file cannot be read ({error.strerror}).", where=path) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"The text after line {number} is not {error.encoding} ({error.reason}).",
            where=path,
        ) from error


def parse_json_lines(lines: Iterable[str], *, where: Path | str) -> Iterator[tuple[int, Any]]:
    r"""Parse JSON lines as (line number, value).

    Numbers start at 1; blank lines are skipped.

    Args:
        lines: The lines, with or without their line feed.
        where: The file, for messages: "a.jsonl" becomes "a.jsonl:2" in an error about line 2.

    Raises:
        UserError: A line is not JSON.

    >>> list(parse_json_lines(['{"a": 1}\n', "", "[2]"], where="a.jsonl"))
    [(1, {'a': 1}), (3, [2])]
    """
    for number, line in enumerate(lines, 1):
        if number == 1:
            line = line.removeprefix("\ufeff")
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise UserError(
                f"The text of line {number} is not JSON ({error.msg}, column {error.colno}). "
                "One JSON value per line is expected.",
                where=f"{where}:{number}",
            ) from error
        yield number, value
