"""The format of a file: told by content and name together, asked for where they disagree."""

import gzip
import json
import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from groundup.base.errors import UserError
from groundup.text.config import FileConfig
from groundup.text.documents import Document
from groundup.text.formats import format_of
from groundup.text.read import read_documents
from groundup.text.records import read_records

LINES = "".join(json.dumps({"text": f"one {i}"}) + "\n" for i in range(3))
LIST = json.dumps([{"text": "one 0"}, {"text": "one 1"}, {"text": "one 2"}])
TEXTS = ["one 0", "one 1", "one 2"]


def texts(path: Path, **settings: object) -> list[str]:
    return [document.text for document in read_documents(path, **settings)]


@pytest.mark.parametrize(
    ("suffix", "head", "expected"),
    [
        (".jsonl", LINES, "jsonl"),
        (".ndjson", '{"a": 1}', "jsonl"),
        (".json", LINES, "jsonl"),
        (".json", LIST, "json"),
        (".json", "[]", "json"),
        ("", LINES, "jsonl"),
        (".log", LINES, "jsonl"),
        (".00000", LIST, "json"),
        ("", '{"text": "' + "a" * 70_000, "jsonl"),
        ("", "{ not json }\n{ at all }", "text"),
        (".py", "[1, 2]", "text"),
        (".txt", "[see below]\n{", "text"),
        (".md", "# Title", "text"),
        (".csv", "a,b\n", "csv"),
        (".tsv", "a\tb\n", "tsv"),
        (".txt", "", "text"),
    ],
)
def test_name_and_content_together(suffix: str, head: str, expected: str) -> None:
    assert format_of(suffix, head, where="a") == expected


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        ("a.txt", LINES, "jsonl"),
        ("a.md", LIST, "json"),
        ("a.csv", LINES, "jsonl"),
        ("a.tsv", LIST, "json"),
        ("a.jsonl", LIST, "json"),
        ("a.json", '{\n "a": 1}\n', "text"),
        ("a.jsonl.gz", LINES, "jsonl"),
        ("a.csv.gz", "text,n\none 0,1\none 1,1\none 2,1\n", "csv"),
        ("a.json", "plain words", "text"),
    ],
)
def test_a_disagreement_is_asked_about(
    tmp_path: Path, name: str, content: str, format: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UserError, match=f"The name ends in .* Try: format='{format}'"):
        texts(path)
    found = texts(path, format=format)
    assert found == ([content] if format == "text" else TEXTS)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "A.JSONL.GZ", "a.json.gz", "a", "a.gz.gz"])
def test_compression_is_told_by_the_content(tmp_path: Path, name: str) -> None:
    content = gzip.compress(LINES.encode())
    (tmp_path / name).write_bytes(gzip.compress(content) if name == "a.gz.gz" else content)
    assert texts(tmp_path / name) == TEXTS


def test_a_compressed_name_without_compression_is_asked_about(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_text("words")
    with pytest.raises(UserError, match="not compressed"):
        texts(tmp_path / "a.txt.gz")
    assert texts(tmp_path / "a.txt.gz", format="text") == ["words"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b"PK\x03\x04\0..."),
        ("a", b"%PDF-1.7 ..."),
        ("a.png", b"words"),
        ("a.txt", b"words\0words"),
        ("a.parquet", b"words"),
        ("a.txt", b"PAR1\0words"),
    ],
)
def test_what_is_not_text_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=r"binary|Parquet"):
        texts(tmp_path / name)


def test_a_text_has_no_records(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    with pytest.raises(UserError, match="a text without records"):
        list(read_records(str(tmp_path / "a.txt"), FileConfig(), fields=["text"]))


def test_old_macintosh_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text,n\rone,1\rtwo,2\r")
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "one"}\r{"text": "two"}\r')
    assert texts(tmp_path / "a.csv") == texts(tmp_path / "a.jsonl") == ["one", "two"]


def test_the_field_of_an_object_in_an_object(tmp_path: Path) -> None:
    rows = [{"a": {"b": "inner"}, "a.b": "dotted"}, {"a": {"b": "inner"}}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert texts(tmp_path / "a.jsonl", text_field="a.b") == ["dotted", "inner"]
    with pytest.raises(UserError, match=r"no field 'a\.c' \(it has: a, a\.b\)"):
        texts(tmp_path / "a.jsonl", text_field="a.c")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("null", "'text' is null"),
        ("3", "'text' is the number 3"),
        ("[1]", "'text' is a list of 1 value"),
        ('{"a": 1}', "'text' is an object"),
        ("true", "'text' is true"),
        ('"\\ud83d"', "half of a surrogate pair"),
    ],
)
def test_a_field_of_another_type_is_named(tmp_path: Path, value: str, words: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "good"}}\n{{"text": {value}}}\n')
    with pytest.raises(UserError, match=f"a.jsonl:2: .*{words}"):
        texts(path)
    (tmp_path / "a.json").write_text(f'[{{"text": "good"}}, {{"text": {value}}}]')
    with pytest.raises(UserError, match=f"a.json, record 2: .*{words}"):
        texts(tmp_path / "a.json")


def test_records_whose_text_is_null_can_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "good"}\n{"text": null}\n')
    assert list(read_documents(path, skip_empty=True)) == [Document("a.jsonl:1", "good")]


def test_parquet_that_is_not_utf8(tmp_path: Path) -> None:
    bad = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(struct.pack("<ii", 0, 4)), pa.py_buffer(b"ab\xff.")]
    )
    column = pa.concat_arrays([pa.array(["good"] * 300), bad])
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pa.table({"text": column}), path)
    with pytest.raises(UserError, match=r"row 301: .* not valid UTF-8 \(byte 2 is 0xff"):
        texts(path)
    pyarrow.parquet.write_table(pa.table({"text": ["good"], "name": ["x"]}), path)
    path.write_bytes(path.read_bytes().replace(b"name", b"na\xffe"))
    with pytest.raises(UserError, match="cannot be read"):
        texts(path)


def test_columns_of_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = {"text": ["one", None], "tags": [["a"], []], "data": [{"inner": "x"}, {"inner": "y"}]}
    pyarrow.parquet.write_table(pa.table({**rows, "raw": [b"x", b"y"]}), path)
    assert texts(path, text_field="data.inner") == ["x", "y"]
    assert texts(path, skip_empty=True) == ["one"]
    for field, words in (("text", "is null"), ("tags", "a list of 1 value"), ("raw", "binary")):
        with pytest.raises(UserError, match=words):
            texts(path, text_field=field)
    with pytest.raises(UserError, match=r"it has: text, tags, data, raw.*text_field='text'"):
        texts(path, text_field="body")


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pa.table({"text": ["good text"] * 999}), path)
    content = path.read_bytes()
    for cut in (4, 100, len(content) - 5):
        path.write_bytes(content[:cut])
        with pytest.raises(UserError, match="Parquet"):
            texts(path)
