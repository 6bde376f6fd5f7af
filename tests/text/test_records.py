"""Records: any table of strings, written by another library, comes back equal or is refused."""

import bz2
import csv
import gzip
import io
import json
import lzma
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.text.config import FileConfig
from groundup.text.records import read_records

Rows = list[tuple[str, str]]
COLUMNS = ("text", "label")

MARKS = st.sampled_from(
    [*'",;\t\n\r\\{}[]:\0\x0b\x0c\x1c\x85 ', "\u2028", "\ufeff", "\r\n", '""', "é", "日", "😀"]
)
ANY_TEXT = st.text() | st.lists(MARKS | st.sampled_from(string.ascii_letters), max_size=12).map(
    "".join
)
TABLES = st.lists(st.tuples(ANY_TEXT, ANY_TEXT), min_size=1, max_size=6)


def as_csv(rows: Rows, **dialect: Any) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.writer(file, **dialect)
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return file.getvalue().encode()


def as_plain_tsv(rows: Rows) -> bytes:
    try:
        options: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None}
        return as_csv(rows, lineterminator="\n", **options)
    except csv.Error:  # a tab or a line feed in a text: such a table has no .tsv without quoting
        assume(False)
        raise


def as_json_lines(rows: Rows, *, ensure_ascii: bool) -> bytes:
    lines = [
        json.dumps(dict(zip(COLUMNS, r, strict=True)), ensure_ascii=ensure_ascii) for r in rows
    ]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def as_json_list(rows: Rows, *, indent: int | None) -> bytes:
    table = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    return json.dumps(table, indent=indent, ensure_ascii=indent is None).encode()


def as_parquet(rows: Rows, kind: pa.DataType) -> bytes:
    columns = {name: pa.array(c) for name, c in zip(COLUMNS, zip(*rows, strict=True), strict=True)}
    file = io.BytesIO()
    pa.parquet.write_table(pa.table({n: c.cast(kind) for n, c in columns.items()}), file)
    return file.getvalue()


WRITERS: dict[str, tuple[str, FileConfig, Callable[[Rows], bytes]]] = {
    "csv": ("a.csv", FileConfig(), as_csv),
    "csv, all quoted": ("a.csv", FileConfig(), lambda r: as_csv(r, quoting=csv.QUOTE_ALL)),
    "csv, line feeds": ("a.CSV", FileConfig(), lambda r: as_csv(r, lineterminator="\n")),
    "csv, semicolons": ("a.csv", FileConfig(), lambda r: as_csv(r, delimiter=";")),
    "tsv": ("a.tsv", FileConfig(), as_plain_tsv),
    "tsv-quoted": (
        "a.tsv",
        FileConfig(format="tsv-quoted"),
        lambda r: as_csv(r, delimiter="\t"),
    ),
    "jsonl": ("a.jsonl", FileConfig(), lambda r: as_json_lines(r, ensure_ascii=False)),
    "jsonl, escaped": ("a.ndjson", FileConfig(), lambda r: as_json_lines(r, ensure_ascii=True)),
    "jsonl without a suffix": ("a", FileConfig(), lambda r: as_json_lines(r, ensure_ascii=True)),
    "jsonl in .json": ("a.json", FileConfig(), lambda r: as_json_lines(r, ensure_ascii=True)),
    "json": ("a.json", FileConfig(), lambda r: as_json_list(r, indent=None)),
    "json, indented": ("a.json", FileConfig(), lambda r: as_json_list(r, indent=2)),
    "parquet": ("a.parquet", FileConfig(), lambda r: as_parquet(r, pa.string())),
    "parquet, large": ("a.parquet", FileConfig(), lambda r: as_parquet(r, pa.large_string())),
    "parquet, coded": (
        "a.parquet",
        FileConfig(),
        lambda r: as_parquet(r, pa.dictionary(pa.int32(), pa.string())),
    ),
}
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def rows_of(path: Path, config: FileConfig) -> Rows:
    records = read_records(str(path), config, fields=COLUMNS)
    return [(record.text("text"), record.text("label")) for record in records]


def check_round_trip(folder: Path, writer: str, compression: str, rows: Rows) -> None:
    name, config, write = WRITERS[writer]
    try:
        content = write(rows)
    except UnicodeEncodeError:  # half of a surrogate pair, in a format without escapes
        assume(False)
        raise
    path = folder / f"{name}{compression}"
    path.write_bytes(COMPRESSIONS[compression](content))
    text = "".join(map("".join, rows))
    # Without escapes, a format cannot hold these; they must be refused, not changed.
    impossible = any("\ud800" <= c <= "\udfff" or c == "\0" for c in text)
    impossible |= "\r" in text and name.lower().endswith("sv")
    try:
        found = rows_of(path, config)
    except UserError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert found == rows
    assert name in refusal or not refusal
    assert impossible or not refusal, f"refused without a reason: {refusal}"


@pytest.mark.parametrize("writer", WRITERS)
@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
@given(rows=TABLES, compression=st.sampled_from(list(COMPRESSIONS)))
def test_a_table_comes_back_equal_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, writer: str, rows: Rows, compression: str
) -> None:
    check_round_trip(tmp_path_factory.getbasetemp(), writer, compression, rows)


@pytest.mark.slow
@settings(max_examples=1_000, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    rows=TABLES,
    writer=st.sampled_from(list(WRITERS)),
    compression=st.sampled_from(list(COMPRESSIONS)),
)
def test_a_thousand_tables_show_no_silent_difference(
    tmp_path_factory: pytest.TempPathFactory, writer: str, rows: Rows, compression: str
) -> None:
    check_round_trip(tmp_path_factory.getbasetemp(), writer, compression, rows)
