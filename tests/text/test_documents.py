"""Reading documents: every kind of source, and errors that name the file and a setting."""

import gzip
import io
import json
from pathlib import Path

import pytest

from groundup.base.errors import UserError
from groundup.text.documents import Document
from groundup.text.pieces import PIECE_CHARACTERS
from groundup.text.read import read_documents, read_pieces


def read(*sources: Path | str, **options: str) -> list[Document]:
    return list(read_documents([str(source) for source in sources], **options))


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_file_is_a_document(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "one\r\ntwo")
    assert read(file) == [Document("a.txt", "one\ntwo")]


def test_a_folder_is_read_by_name_without_hidden_and_binary_files(tmp_path: Path) -> None:
    write(tmp_path / "b.md", "second")
    write(tmp_path / "a" / "deep.txt", "first")
    write(tmp_path / ".git" / "config", "hidden")
    write(tmp_path / "picture.png", b"\x89PNG")
    write(tmp_path / "unnamed", b"\0\1\2")
    assert [(d.name, d.text) for d in read(tmp_path)] == [
        ("a/deep.txt", "first"),
        ("b.md", "second"),
    ]


def test_globs_and_several_sources_keep_their_order(tmp_path: Path) -> None:
    for name in ("2.txt", "1.txt", "x.md"):
        write(tmp_path / name, name)
    documents = read(tmp_path / "x.md", f"{tmp_path}/*.txt")
    assert [d.text for d in documents] == ["x.md", "1.txt", "2.txt"]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = io.TextIOWrapper(io.BytesIO("piped: ü".encode()))
    monkeypatch.setattr("sys.stdin", fake)
    assert read("-") == [Document("stdin", "piped: ü")]


def test_compressed_files_are_what_they_hold(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt.gz", gzip.compress(b"inside"))
    assert [d.text for d in read(file)] == ["inside"]


def test_a_separator_ends_a_document(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "one\n<|endoftext|>\ntwo<|endoftext|>\n")
    assert [(d.name, d.text) for d in read(file, separator="<|endoftext|>")] == [
        ("a.txt:1", "one"),
        ("a.txt:2", "two"),
    ]


def test_json_lines_may_hold_any_unicode_line_separator(tmp_path: Path) -> None:
    text = "one\u2028still\u0085one\nand"
    lines = [json.dumps({"body": text}, ensure_ascii=False), "", json.dumps({"body": "two"})]
    file = write(tmp_path / "a.jsonl", "\n".join(lines))
    assert [(d.name, d.text) for d in read(file, text_field="body")] == [
        ("a.jsonl:1", text),
        ("a.jsonl:3", "two"),
    ]


def test_other_encodings(tmp_path: Path) -> None:
    for encoding in ("latin-1", "utf-16", "utf-8-sig"):
        file = write(tmp_path / "a.txt", "Grüße".encode(encoding))
        assert [d.text for d in read(file, encoding=encoding)] == ["Grüße"]


@pytest.mark.parametrize(
    ("name", "content", "options", "words"),
    [
        ("empty.txt", b"", {}, "empty"),
        ("blank.txt", b" \n\n ", {}, "no text"),
        ("latin.txt", "Grüße".encode("latin-1"), {}, "encoding='latin-1'"),
        ("wide.txt", "Grüße".encode("utf-16"), {}, "encoding='utf-16'"),
        ("data.bin.txt", b"\x7fELF\0\0\0\1", {}, "binary"),
        ("a.txt", b"words", {"encoding": "klingon"}, "The encoding 'klingon' is unknown"),
        ("cut.txt.gz", gzip.compress(b"word " * 999, mtime=0)[:-9], {}, "cannot be read"),
        ("a.jsonl", b'{"text": "one"}\n{"text": "tw', {}, "a.jsonl:2"),
        ("b.jsonl", b'{"body": "one"}', {}, "it has: body). The name of the field"),
        ("c.jsonl", b'["one"]', {}, "An object with a field 'text'"),
        ("d.jsonl", b'{"id": "1", "body": "one"}', {}, "text_field='body'"),
    ],
)
def test_what_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: bytes, options: dict[str, str], words: str
) -> None:
    file = write(tmp_path / name, content)
    with pytest.raises(UserError) as caught:
        read(file, **options)
    assert words in str(caught.value)
    assert name in str(caught.value) or "encoding" in options


def test_missing_paths_and_folders_without_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "absent.txt")
    with pytest.raises(UserError, match="no such file"):
        read(f"{tmp_path}/*.txt")
    write(tmp_path / "picture.png", b"\x89PNG")
    with pytest.raises(UserError, match=r"no text file\. Left out: binary files: 1 \(picture"):
        read(tmp_path)


def test_a_line_of_50_megabytes_is_only_a_long_line(tmp_path: Path) -> None:
    file = write(tmp_path / "line.txt", b"word " * 10_000_000)
    sizes = [len(piece.text) for piece in read_pieces([str(file)])]
    assert sum(sizes) == 50_000_000
    assert max(sizes) <= PIECE_CHARACTERS  # so that no step handles more than one piece
    (document,) = read(file)
    assert document.n_bytes == 50_000_000
