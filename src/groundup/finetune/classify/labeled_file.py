"""Write rows to a table: CSV, TSV, JSON lines, a JSON list or Parquet."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from groundup.base.errors import UserError
from groundup.base.extras import needed
from groundup.base.files import atomic_path

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
"""The formats that can be written, by the suffix of the file."""
Rows = list[dict[str, Any]]


def write_rows(out: Path, chunks: Iterator[Rows]) -> None:
    """Write rows chunk by chunk; the file is complete, or there is none.

    Args:
        out: The file; its suffix is one of `SUFFIXES`.
        chunks: The rows. Those of a table have the same columns.

    Raises:
        UserError: The file cannot be written, or a row has columns that the first one lacks.
    """
    with atomic_path(out) as temporary:
        if out.suffix == ".parquet":
            _write_parquet(out, temporary, chunks)
            return
        with open(temporary, "w", encoding="utf-8", errors="surrogatepass", newline="") as file:
            if out.suffix == ".jsonl":
                for rows in chunks:
                    file.writelines(_json(row) + "\n" for row in rows)
            elif out.suffix == ".json":
                separator = "[\n"
                for rows in chunks:
                    for row in rows:
                        file.write(separator + _json(row))
                        separator = ",\n"
                file.write("\n]\n")
            else:
                _write_table(out, file, chunks, "," if out.suffix == ".csv" else "\t")


def _json(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, default=str)


def _write_table(out: Path, file: io.TextIOBase, chunks: Iterator[Rows], delimiter: str) -> None:
    writer: csv.DictWriter[str] | None = None
    for rows in chunks:
        if writer is None:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, lineterminator="\n")
            writer.writeheader()
        try:
            writer.writerows(rows)
        except ValueError as error:
            raise _different(out, str(error)) from error


def _write_parquet(out: Path, temporary: Path, chunks: Iterator[Rows]) -> None:
    arrow = needed("pyarrow", "sources", str(out))
    parquet = needed("pyarrow.parquet", "sources", str(out))
    rows = [row for chunk in chunks for row in chunk]
    for row in rows:
        if more := row.keys() - rows[0].keys():
            raise _different(out, f"only some have {', '.join(sorted(more))}")
    parquet.write_table(arrow.Table.from_pylist(rows), temporary)


def _different(out: Path, how: str) -> UserError:
    return UserError(
        f"The rows have different fields ({how}), which a table cannot hold. A file of JSON lines "
        "is expected.",
        where=out,
        settings={"out": str(out.with_suffix(".jsonl"))},
    )
