r"""JSON records: a value per line, or a list of values. Every error names the line or record.

Lines end at a line feed and nowhere else: a JSON string may contain U+2028 or U+0085, at which
`str.splitlines` would cut. A list is parsed element by element, so that it is never in memory
completely.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from groundup.base.errors import UserError

_LIST_MARK = re.compile(r'[\[\]{}",]')
_IN_STRING = re.compile(r'(?:[^"\\]|\\.)*+', re.DOTALL)


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
                f"The text of line {number} is not JSON ({_reason(error)}, column {error.colno}). "
                "One JSON value per line is expected.",
                where=f"{where}:{number}",
            ) from error
        yield number, value


def parse_json_list(chunks: Iterable[str], *, where: Path | str) -> Iterator[tuple[int, Any]]:
    """Parse a JSON list as (record number, value), one element at a time; numbers start at 1.

    Raises:
        UserError: An element is not JSON, or the list is not closed.

    >>> list(parse_json_list(['[{"a": [1, 2]}, ', '"]"]'], where="a.json"))
    [(1, {'a': [1, 2]}), (2, ']')]
    """
    number, parts = 0, list[str]()
    for part, mark in _elements(chunks, where):
        parts.append(part)
        if not mark:
            continue
        text, parts = "".join(parts), []
        if mark == "]" and number == 0 and not text.strip():
            continue
        number += 1
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise UserError(
                f"This record is not JSON ({_reason(error)}, character {error.pos + 1} of the "
                "record).",
                where=f"{where}, record {number}",
            ) from error
        yield number, value


def _reason(error: orjson.JSONDecodeError) -> str:
    if "surrogate" in error.msg:
        return "it contains half of a surrogate pair, which is not a character"
    return error.msg


def _elements(chunks: Iterable[str], where: Path | str) -> Iterator[tuple[str, str]]:
    """Cut a list at its own commas: yields (part of an element, "" or the mark that ends it)."""
    depth, in_string, escaped, is_over = 0, False, False, False
    for chunk in chunks:
        start = at = 0
        while at < len(chunk):
            if in_string:
                at = at + 1 if escaped else at
                found = _IN_STRING.match(chunk, at)
                assert found is not None
                at = found.end() + 1
                escaped = chunk[at - 1 : at] == "\\"  # the chunk ends behind a backslash
                in_string = escaped or at > len(chunk)
                continue
            found = _LIST_MARK.search(chunk, at)
            if depth == 0 and chunk[at : found and found.start()].strip(" \t\n\r"):
                raise _not_a_list(is_over, where)
            if found is None:
                break
            mark, at = found[0], found.end()
            if is_over or (depth == 0 and mark != "["):
                raise _not_a_list(is_over, where)
            if mark == '"':
                in_string = True
            elif mark in "[{":
                depth += 1
                start = at if depth == 1 else start
            elif mark in "]}":
                depth -= 1
                if depth == 0 and mark == "}":
                    raise _not_a_list(is_over, where)
            if depth == 0 or (depth == 1 and mark == ","):
                yield chunk[start : at - 1], mark
                start, is_over = at, depth == 0
        if depth > 0:
            yield chunk[start:], ""
    if not is_over:
        raise UserError(
            "The JSON list is not closed. The file ends inside it."
            if depth > 0
            else "This is not a JSON list. A list of objects is expected.",
            where=where,
        )


def _not_a_list(is_over: bool, where: Path | str) -> UserError:
    found = (
        "There is text after the end of the list." if is_over else "The file is not a JSON list."
    )
    return UserError(f"{found} One list of objects is expected.", where=where)
