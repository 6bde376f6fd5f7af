"""JSON lines: numbers of lines, and errors that name them."""

import json
from pathlib import Path

import pytest

from groundup.base.errors import UserError
from groundup.text.jsonl import read_json_lines


def test_values_come_with_their_line_numbers(tmp_path: Path) -> None:
    text = "one\u2028still\u0085one"
    path = tmp_path / "a.jsonl"
    path.write_bytes(f"\ufeff[1]\r\n\n{json.dumps(text, ensure_ascii=False)}".encode())
    assert list(read_json_lines(path)) == [(1, [1]), (3, text)]


def test_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('"Grüße"\n"ä"'.encode("utf-16"))
    assert list(read_json_lines(path, encoding="utf-16")) == [(1, "Grüße"), (2, "ä")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": 1}\n\n{"a": ', r"a\.jsonl:3: The text of line 3 is not JSON .*column 7"),
        (b'"a"\n"\xff"', "is not utf-8"),
        (None, r"a\.jsonl: This file cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "a.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        list(read_json_lines(path))
