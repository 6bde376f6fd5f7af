"""Arrays of strings in the header of a GGUF file: read as they are, or the damaged one is named."""

import struct
from pathlib import Path

import pytest

from groundup.base.errors import UserError
from groundup.base.gguf import read_gguf_header


def string(raw: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(raw) if length is None else length) + raw


def header(*strings: bytes) -> bytes:
    array = struct.pack("<IIQ", 9, 8, len(strings)) + b"".join(strings)
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string(b"tokens") + array


def test_strings_are_read(tmp_path: Path) -> None:
    texts = ["ab", "", "日本語", "x" * 300]
    (tmp_path / "a.gguf").write_bytes(header(*(string(t.encode()) for t in texts)))
    assert read_gguf_header(tmp_path / "a.gguf").metadata == {"tokens": texts}


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        (string(b"ab", 2**40), "states 1,099,511,627,776 bytes for the array 'tokens'"),
        (string(b"ab", 3), "states 3 bytes for the array 'tokens', and 2 bytes are left"),
        (string(b"\xff\xfe"), "array 'tokens' is not UTF-8"),
        (b"\x01\x00", "It is cut in the array 'tokens'"),
    ],
)
def test_a_damaged_string_is_named(tmp_path: Path, damaged: bytes, said: str) -> None:
    (tmp_path / "a.gguf").write_bytes(header(string(b"abcdefgh"), damaged))
    with pytest.raises(UserError, match=said):
        read_gguf_header(tmp_path / "a.gguf")
