"""Tables of text: CSV, and TSV with or without quoting. Every error names the line.

A row that has more or fewer fields than the header is refused, and so is a quotation mark that is
never closed: both would shift texts into other columns or join many rows silently.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from groundup.base.errors import UserError
from groundup.text.left_out import LeftOut

_LARGEST_FIELD = 2**27
"""Characters; only a quotation mark that is never closed makes a longer field."""

_LOOKS_QUOTED = (
    "rows with quotation marks at the start of a field; the formats 'tsv-quoted' and 'tsv-pandas' "
    "remove the marks"
)

_END = "\0"
"""A line after the last one, which no row ends with."""
_JOINED = "lines that continue the row before them, in which a quotation mark is open"

TableFormat = Literal["csv", "tsv", "tsv-quoted", "tsv-pandas"]
T = TypeVar("T")
Row = tuple[int, list[str]]
"""The line at which a row begins, and its fields."""


@dataclass(frozen=True)
class Table:
    """The column names of a table, and its rows as they are read."""

    columns: list[str]
    rows: Iterator[Row]


def read_table(
    chunks: Iterable[str],
    format: TableFormat,
    *,
    where: str,
    default_columns: Sequence[str] = (),
    left_out: LeftOut | None = None,
) -> Table:
    """Read a table whose first row has the names of its columns.

    Args:
        chunks: The text, with its own line ends; only a line feed ends a row.
        format: csv, tsv (every character is part of a field but tabs and line feeds), tsv-quoted or
            tsv-pandas. A CSV header without a comma may use semicolons or tabs.
        where: The file, for messages.
        default_columns: Column names of a TSV file without a header. It is taken to have none if
            its first row has this many fields and none of these names.
        left_out: Counts fields of unquoted TSV that look quoted, and lines of quoted TSV that
            quotation marks join.

    Raises:
        UserError: The header has no or equal names; later, a row has another width, or a quotation
            mark is never closed.
    """
    lines = split_lines(chunks)
    n_before, first, delimiter = 0, None, ""
    for line in lines:
        if line.startswith("sep=") and len(line.rstrip("\r")) == 5:  # Excel names the delimiter
            delimiter = line[4]
        elif line.strip():
            first = line
            break
        n_before += 1
    if first is None:
        raise UserError(
            "The table is empty. A first line with the names of its columns is expected.",
            where=where,
        )
    lines = _again(first, lines)
    if format == "tsv":
        rows = _unquoted(lines, n_before, where, left_out)
    else:
        delimiter = delimiter or _delimiter(first) if format == "csv" else "\t"
        rows = _quoted(
            lines,
            n_before,
            delimiter,
            where,
            is_strict=format != "tsv-pandas",
            joined=None if format == "csv" else left_out,
        )
    number, header = next(rows)
    columns = [name.strip() for name in header]
    fits = format == "tsv" and len(columns) == len(default_columns)
    if fits and not {name.lower() for name in columns} & set(default_columns):
        columns, rows = list(default_columns), _again((number, header), rows)
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise UserError(
            f"The header has two columns named {twice!r}. Different names are expected.",
            where=f"{where}:{number}",
        )
    return Table(columns, _of_equal_width(rows, len(columns), where))


def split_lines(chunks: Iterable[str]) -> Iterator[str]:
    r"""Split into lines without their line feed; no other character ends one (U+2028 does not).

    >>> list(split_lines(["one\ntw", "o\n"]))
    ['one', 'two', '']
    """
    rest: list[str] = []
    for chunk in chunks:
        first, *others = chunk.split("\n")
        rest.append(first)
        if others:
            yield "".join(rest)
            yield from others[:-1]
            rest = [others[-1]]
    yield "".join(rest)


def _delimiter(header: str) -> str:
    """Find what separates the columns of a CSV file: Excel writes semicolons in many countries."""
    return next((mark for mark in ",;\t" if mark in header), ",")


def _again(first: T, rest: Iterator[T]) -> Iterator[T]:
    yield first
    yield from rest


def _unquoted(
    lines: Iterable[str], n_before: int, where: str, left_out: LeftOut | None
) -> Iterator[Row]:
    line_end: str | None = None
    for number, line in enumerate(lines, n_before + 1):
        if line_end is None:  # a carriage return ends every line, or it is part of a text
            line_end = "\r" if line.endswith("\r") else ""
        line = line.removesuffix(line_end)
        if not line:
            continue
        fields = line.split("\t")
        if left_out is not None and any(field.startswith('"') for field in fields):
            left_out.add(_LOOKS_QUOTED, f"{where}:{number}", action="Kept as they are")
        yield number, fields


def _quoted(
    lines: Iterator[str],
    n_before: int,
    delimiter: str,
    where: str,
    *,
    is_strict: bool,
    joined: LeftOut | None,
) -> Iterator[Row]:
    """Read rows with quotation marks; without `is_strict`, text after a quoted part is kept."""
    csv.field_size_limit(_LARGEST_FIELD)
    last = ""

    def watched() -> Iterator[str]:
        nonlocal last
        for last in lines:
            yield f"{last}\n"
        if not is_strict:
            yield _END  # becomes a part of the last row if a quotation mark is open

    reader = csv.reader(watched(), delimiter=delimiter, strict=is_strict)
    number, ends_with_cr = n_before + 1, True
    try:
        for row in reader:
            if not is_strict and row == [_END]:
                return
            if not is_strict and row and row[-1].endswith(_END):
                raise csv.Error("unexpected end of data")
            if number == n_before + 1:
                ends_with_cr = last.endswith("\r")
            elif last.endswith("\r") and not ends_with_cr:
                raise csv.Error("it ends with a carriage return, unlike the rows before it")
            if row:
                yield number, row
            following = n_before + reader.line_num + 1
            if joined is not None:
                for line in range(number + 1, following):
                    joined.add(_JOINED, f"{where}:{line}", action="Joined")
            number = following
    except csv.Error as error:
        found = str(error)
        if "new-line character" in found:
            found = "it contains a carriage return outside quotation marks"
        raise UserError(
            f"The row that begins here is not valid CSV ({found}). If it contains a quotation mark "
            "that is never closed, all rows after it would become part of its text.",
            where=f"{where}:{number}",
            settings={"format": "tsv-pandas"} if joined is not None and is_strict else None,
        ) from error


def _of_equal_width(rows: Iterator[Row], width: int, where: str) -> Iterator[Row]:
    for number, row in rows:
        if len(row) != width:
            raise UserError(
                f"This row has {len(row)} columns. {width} are expected, as in the header. A text "
                "that contains the separator must be in quotation marks.",
                where=f"{where}:{number}",
            )
        yield number, row
