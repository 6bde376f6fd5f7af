"""JSON lines and lists: numbers of lines and records, and errors that name them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.text.config import FileConfig
from groundup.text.jsonl import parse_json_list
from groundup.text.records import read_records


def json_lines(path: Path, encoding: str = "utf-8") -> list[tuple[str, Any]]:
    config = FileConfig(format="jsonl", encoding=encoding)
    return [(record.name, record.values) for record in read_records(str(path), config, fields=[])]


def test_values_come_with_their_line_numbers(tmp_path: Path) -> None:
    text = "one\u2028still\u0085one"
    path = tmp_path / "a.jsonl"
    path.write_bytes(f"\ufeff[1]\r\n\n{json.dumps(text, ensure_ascii=False)}".encode())
    assert json_lines(path) == [("a.jsonl:1", [1]), ("a.jsonl:3", text)]


def test_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('"Grüße"\n"ä"'.encode("utf-16"))
    assert json_lines(path, encoding="utf-16") == [("a.jsonl:1", "Grüße"), ("a.jsonl:2", "ä")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": 1}\n\n{"a": ', r"a\.jsonl:3: The text of line 3 is not JSON .*column 7"),
        (b'"a"\n"\xff"', "is not utf-8"),
        (None, r"a\.jsonl: There is no such file"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "a.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        json_lines(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def in_chunks(text: str, size: int) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


@given(values=st.lists(JSON), size=st.integers(1, 7), ascii_only=st.booleans())
def test_a_list_is_that_of_the_json_module(values: list[Any], size: int, ascii_only: bool) -> None:
    text = json.dumps(values, ensure_ascii=ascii_only)
    found = [value for _, value in parse_json_list(in_chunks(text, size), where="a")]
    assert found == values


@example(text=['"', '"', "}"], size=1)
@given(
    text=st.lists(st.sampled_from(["[", "]", "{", "}", '"', ",", "\\", " ", "a", "1", ":", "\n"])),
    size=st.integers(1, 4),
)
def test_what_the_json_module_refuses_is_refused(text: list[str], size: int) -> None:
    joined = f"[{''.join(text)}"
    try:
        expected = json.loads(joined)
    except json.JSONDecodeError:
        with pytest.raises(UserError):
            list(parse_json_list(in_chunks(joined, size), where="a"))
        return
    assert [v for _, v in parse_json_list(in_chunks(joined, size), where="a")] == expected
