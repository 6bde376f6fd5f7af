"""Encodings: byte-order marks told apart, names in any spelling, no garbage in silence."""

import codecs
from pathlib import Path

import pytest

from groundup.base.errors import UserError
from groundup.text.config import ReadConfig
from groundup.text.encodings import encoding_name
from groundup.text.left_out import LeftOut
from groundup.text.read import read_documents, read_pieces

TEXT = "Grüße\nfrom the mat"
MARKED = {
    "utf-8": codecs.BOM_UTF8 + TEXT.encode(),
    "utf-16": TEXT.encode("utf-16"),
    "utf-16 big": codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    "utf-32": TEXT.encode("utf-32"),
    "utf-32 big": codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"),
}


@pytest.mark.parametrize("kind", MARKED)
@pytest.mark.parametrize("typed", ["utf-8", "utf16", "UTF_32", "latin-1"])
def test_a_byte_order_mark_decides(tmp_path: Path, kind: str, typed: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(MARKED[kind])
    right = kind.split()[0]
    if encoding_name(typed) == right:
        assert [d.text for d in read_documents(path, encoding=typed)] == [TEXT]
        return
    with pytest.raises(UserError, match=f"encoded in {right.upper()}") as caught:
        list(read_documents(path, encoding=typed))
    assert caught.value.settings == {"encoding": right}
    assert [d.text for d in read_documents(path, encoding=right)] == [TEXT]  # the advice works


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_stated_byte_order_needs_no_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT.encode(encoding))
    assert [d.text for d in read_documents(tmp_path / "a.txt", encoding=encoding)] == [TEXT]
    with pytest.raises(UserError, match="zero bytes"):
        list(read_documents(tmp_path / "a.txt"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_without_a_mark_the_byte_order_is_not_guessed(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_text("plain words, in UTF-8")
    with pytest.raises(UserError, match="no byte-order mark") as caught:
        list(read_documents(tmp_path / "a.txt", encoding=encoding))
    assert caught.value.settings == {"encoding": "utf-8"}


def test_zero_characters_are_refused_anywhere(tmp_path: Path) -> None:
    (tmp_path / "wrong.txt").write_bytes(TEXT.encode("utf-32-le"))
    with pytest.raises(UserError, match="zero character"):
        list(read_documents(tmp_path / "wrong.txt", encoding="utf-16-le"))
    (tmp_path / "late.txt").write_bytes(b"word " * 20_000 + b"\0")
    with pytest.raises(UserError, match="zero character"):
        list(read_documents(tmp_path / "late.txt"))


@pytest.mark.parametrize(
    "name",
    [
        *("hex", "base64", "rot13", "zlib", "bz2", "uu", "undefined", "idna", "punycode", "", "\0"),
        *("unicode_escape", "Raw-Unicode-Escape"),
    ],
)
def test_only_text_encodings_are_known(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text("words")
    with pytest.raises(UserError, match=r"is unknown\. A text encoding"):
        list(read_documents(tmp_path / "a.txt", encoding=name))


def test_half_of_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"words +2AA- words")
    with pytest.raises(UserError, match="half of a surrogate pair"):
        list(read_documents(tmp_path / "a.txt", encoding="utf-7"))
    (tmp_path / "a.txt").write_bytes("words \U0001f600".encode("utf-7"))
    assert [d.text for d in read_documents(tmp_path / "a.txt", encoding="utf-7")] == [
        "words \U0001f600"
    ]


def test_an_encoding_is_heard_in_folders(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT.encode("utf-16"))
    (tmp_path / "b.txt").write_bytes(TEXT.encode("utf-8"))
    for encoding, left in (("utf-16", "b.txt"), ("utf-8", "a.txt")):
        left_out = LeftOut()
        config = ReadConfig(encoding=encoding)
        pieces = list(read_pieces(tmp_path, config, left_out=left_out))
        assert [piece.text for piece in pieces] == [TEXT]
        assert [entry.examples for entry in left_out.counts.values()] == [[left]]
        with pytest.raises(UserError, match=left):
            list(read_documents(tmp_path, encoding=encoding, strict=True))
