"""Memory does not follow the size of a file, for every format that is read in a stream."""

import json
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from groundup.text.jsonl import parse_json_lines, parse_json_list
from groundup.text.tables import TableFormat, read_table, split_lines

WORDS = 'The cat sat on the "mat". ' * 40
N_ROWS = 20_000
CHUNK = 2**16


def in_chunks(first: str, row: Callable[[int], str], last: str = "") -> Iterator[str]:
    text = first
    for number in range(N_ROWS):
        text += row(number)
        if len(text) > CHUNK:
            yield text[:CHUNK]
            text = text[CHUNK:]
    yield text + last


def json_lines() -> Iterator[Any]:
    return parse_json_lines(
        split_lines(in_chunks("", lambda i: json.dumps({"text": WORDS, "n": i}) + "\n")), where="a"
    )


def json_list() -> Iterator[Any]:
    row = json.dumps({"text": WORDS, "tags": ["]", "{"]})
    return parse_json_list(in_chunks("[", lambda i: row + ",\n", '{"text": ""}]'), where="a")


def table(format: TableFormat, row: str) -> Iterator[Any]:
    first = "text\tn\n" if format == "tsv" else "text,n\n"
    return read_table(in_chunks(first, lambda i: row), format, where="a").rows


@pytest.mark.parametrize(
    ("read", "n_rows"),
    [
        (json_lines, N_ROWS),
        (json_list, N_ROWS + 1),
        (lambda: table("csv", '"' + WORDS.replace('"', '""') + '",1\n'), N_ROWS),
        (lambda: table("tsv", f"{WORDS}\t1\n"), N_ROWS),
    ],
    ids=["jsonl", "json", "csv", "tsv"],
)
def test_a_file_of_20_megabytes_takes_little_memory(
    read: Callable[[], Iterator[Any]], n_rows: int
) -> None:
    tracemalloc.start()
    try:
        assert sum(1 for _ in read()) == n_rows
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * CHUNK
