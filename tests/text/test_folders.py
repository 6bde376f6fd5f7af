"""Folders, globs and URLs: what is read, and what is left out and reported."""

import functools
import gzip
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from groundup.base.errors import UserError
from groundup.base.run import RunFolder
from groundup.data.config import PrepareAndEncodeConfig, TrainAndEncodeConfig
from groundup.data.pipeline import prepare_and_encode, train_and_encode
from groundup.text.config import PrepareConfig
from groundup.text.corpus import read_corpus
from groundup.text.left_out import LeftOut
from groundup.text.prepare import prepare
from groundup.text.read import read_documents, read_pieces
from groundup.text.sources import find_sources

STORY = "The cat sat on the mat and the dog ran over the hill.\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user with two texts, as working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text(STORY * 40)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "one.md").write_text(STORY.upper() * 40)
    return tmp_path


def names(*words: str, **settings: object) -> list[str]:
    return [document.name for document in read_documents(words, **settings)]


def write_everything(data: Path, run: Path) -> None:
    """Write a data folder with tokenizer and stores, results, a run and pages."""
    prepare_and_encode(PrepareAndEncodeConfig(sources=("book.txt",), out=data))
    train_and_encode(TrainAndEncodeConfig(data=data, vocab_size=300))
    for place in (data, run):
        (place / "results").mkdir(parents=True)
        (place / "results" / "prepare.json").write_text("{}")
    started = RunFolder(run)
    started.write_manifest({})
    started.config_path.write_text("")
    started.log_metrics(step=1)
    for name in ("samples/step-1.txt", "log.txt", "README.md"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("made by the model")


@pytest.mark.parametrize("word", [".", "", "**", "../{name}", "*"])
def test_sources_never_include_what_groundup_wrote(folder: Path, word: str) -> None:
    word = word.format(name=folder.name) or str(folder)
    before = names(word, separator=None) if word != "*" else ["book.txt"]
    write_everything(folder / "data", folder / "runs" / "a")
    (folder / "windows.html").write_text(
        '<html><head><meta name="generator" content="groundup"></head></html>'
    )
    assert names(word) == before
    left_out = LeftOut()
    list(read_pieces(word, left_out=left_out))
    assert any("groundup wrote" in reason for reason in left_out.counts)


@pytest.mark.parametrize(
    "inside",
    [
        "data/corpus",
        "data/corpus/train.jsonl",
        "data/tokenizer/vocabulary.txt",
        "data/train",
        "data/results/prepare.json",
        "runs/a",
        "runs/a/samples",
        "runs/a/samples/step-1.txt",
        "runs/a/README.md",
    ],
)
def test_what_groundup_wrote_is_refused_by_name(folder: Path, inside: str) -> None:
    write_everything(folder / "data", folder / "runs" / "a")
    with pytest.raises(UserError, match="written by groundup"):
        find_sources(inside)
    (folder / "runs" / "a" / "mine.txt").write_text("a text beside the run")
    assert names("runs/a/mine.txt") == ["mine.txt"]


def test_preparing_a_folder_that_holds_its_own_output_twice(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "own.txt").write_text(STORY * 50)
    config = PrepareConfig(sources=(".",), out=folder / "data")
    first = prepare(config)
    corpus = (folder / "data" / "corpus" / "train.jsonl").read_bytes()
    (folder / "data" / "results").mkdir()
    (folder / "data" / "results" / "prepare.json").write_text("{}")
    again = prepare(config)
    assert (again.train, again.longest) == (first.train, first.longest)
    assert (folder / "data" / "corpus" / "train.jsonl").read_bytes() == corpus
    appended = prepare(PrepareConfig(sources=(".",), out=folder / "data", append=True))
    assert appended.n_skipped_sources == 3
    assert len(list(read_corpus(folder / "data", "train"))) == first.train.n_documents


def test_a_folder_reports_what_it_left_out(folder: Path) -> None:
    (folder / "_SUCCESS").touch()
    (folder / ".hidden").write_text("secret")
    (folder / ".git").mkdir()
    (folder / "picture.PNG").write_bytes(b"\x89PNG")
    (folder / "unnamed").write_bytes(b"\0\1\2")
    (folder / "blank.txt").write_text(" \n")
    (folder / "broken").symlink_to(folder / "nowhere")
    (folder / "broken.jsonl").write_text('{"text": "one"}\n{"te')
    os.mkfifo(folder / "pipe")
    left_out = LeftOut()
    pieces = list(read_pieces(folder, left_out=left_out))
    assert [piece.name for piece in pieces] == ["book.txt", "notes/one.md"]
    counts = {reason: (c.count, c.examples) for reason, c in left_out.counts.items()}
    assert counts["hidden files"] == (1, [".hidden"])
    assert counts["hidden folders"] == (1, [".git/"])
    assert counts["empty files"] == (1, ["_SUCCESS"])
    assert counts["binary files"] == (2, ["picture.PNG", "unnamed"])
    assert counts["documents without text"] == (1, ["blank.txt"])
    assert counts["broken links and special files"][0] == 2
    assert "broken.jsonl:2" in counts["unreadable files"][1][0]


def test_the_report_is_part_of_the_manifest(folder: Path) -> None:
    (folder / "_SUCCESS").touch()
    result = prepare(PrepareConfig(sources=(str(folder),), out=folder / "data"))
    assert result.left_out.sentences() == ["Left out: empty files: 1 (_SUCCESS)."]
    manifest = json.loads((folder / "data" / "corpus" / "manifest.json").read_text())
    assert manifest["left_out"]["empty files"]["count"] == 1
    kept = prepare(PrepareConfig(sources=(str(folder),), out=folder / "data"))
    assert kept.left_out == result.left_out


@pytest.mark.parametrize("content", [b"", b"\0", b"\xff\xfe\0\0", "Grüße".encode("latin-1")])
def test_strict_refuses_a_folder_with_an_unreadable_file(folder: Path, content: bytes) -> None:
    (folder / "bad.txt").write_bytes(content)
    assert names(".") == names("**/*.*") == ["book.txt", "notes/one.md"]
    with pytest.raises(UserError, match=r"bad\.txt"):
        names(".", strict=True)
    with pytest.raises(UserError, match=r"bad\.txt"):
        names("bad.txt")


def test_a_folder_of_unreadable_files_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("words".encode("utf-16"))
    with pytest.raises(UserError, match="encoded in UTF-16") as caught:
        list(read_documents(tmp_path))
    assert caught.value.settings == {"encoding": "utf-16"}


def test_a_file_of_a_folder_is_read_completely_or_not_at_all(folder: Path) -> None:
    lines = [json.dumps({"text": STORY * 100}) for _ in range(300)]
    (folder / "a.jsonl").write_text("\n".join([*lines, "{"]))
    assert names(".") == ["book.txt", "notes/one.md"]
    # A file of more than 8 MB streams, so an error in it ends the job.
    (folder / "a.jsonl").write_text("\n".join([*lines * 9, "{"]))
    with pytest.raises(UserError, match=r"a\.jsonl:2701"):
        names(".")
    (folder / "a.jsonl").unlink()
    (folder / "a.txt").write_bytes(STORY.encode() * 180_000 + b"\xff")
    with pytest.raises(UserError, match=r"a\.txt: Byte .* name the files to read") as caught:
        names(".")
    assert caught.value.settings == {}, "another encoding would misread the other files"


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    place = os.fsencode(tmp_path) + b"/caf\xe9 \xf0\x9f\x98\x80.txt"
    with open(place, "w") as file:
        file.write(STORY * 40)
    result = prepare(PrepareConfig(sources=(str(tmp_path),), out=tmp_path / "data"))
    assert result.longest[0][0].startswith("caf\ufffd 😀.txt")
    (source,) = find_sources(os.fsdecode(place))
    assert source.name == "caf\ufffd 😀.txt"
    str(source).encode()


def test_a_path_or_a_string_is_one_source(folder: Path) -> None:
    expected = list(read_documents(["book.txt"]))
    assert list(read_documents("book.txt")) == expected
    assert list(read_documents(Path("book.txt"))) == expected
    assert list(read_documents([Path("book.txt")])) == expected


class _Site(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/refused"):
            self.send_error(403)
        elif self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", "/files/rows.csv?signature=abc")
            self.end_headers()
        else:
            super().do_GET()

    do_HEAD = do_GET  # type: ignore[assignment]  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """A web server with files of records."""
    files = tmp_path / "site" / "files"
    files.mkdir(parents=True)
    rows = [{"text": f"row {i}"} for i in range(3)]
    lines = "\n".join(map(json.dumps, rows))
    (files / "rows.jsonl").write_text(lines)
    (files / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (files / "rows.csv").write_text("text\n" + "".join(f"row {i}\n" for i in range(3)))
    (files / "download").write_text(lines)
    handler = functools.partial(_Site, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    "address",
    [
        "files/rows.jsonl",
        "files/rows.jsonl?download=true",
        "files/rows.jsonl#top",
        "files/rows.jsonl?name=a.txt#b.csv",
        "files/rows.jsonl.gz?sig=a%2Fb.txt",
        "files/rows.csv?x=1",
        "files/download?file=rows.txt",
        "moved",
        "moved?id=7",
    ],
)
def test_the_kind_of_a_url_is_that_of_its_path(site: str, address: str) -> None:
    pytest.importorskip("aiohttp", reason="the extra `sources` is not installed")
    documents = read_documents(f"{site}/{address}")
    assert [document.text for document in documents] == ["row 0", "row 1", "row 2"]


def test_a_url_that_is_refused_is_an_error_with_words(site: str) -> None:
    pytest.importorskip("aiohttp", reason="the extra `sources` is not installed")
    with pytest.raises(UserError, match=r"This URL cannot be opened \(403.*Forbidden"):
        list(read_documents(f"{site}/refused/*.jsonl"))
