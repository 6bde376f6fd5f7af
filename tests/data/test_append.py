"""Appending: a single document, and sources that the corpus contains already."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from groundup.base.errors import UserError
from groundup.base.files import read_json
from groundup.data.config import PrepareAndEncodeConfig
from groundup.data.pipeline import prepare_and_encode
from groundup.text.config import PrepareConfig
from groundup.text.corpus import prepare_command, read_corpus
from groundup.text.prepare import PrepareResult, prepare
from groundup.tokenizer.train_bpe import train_bpe


def test_an_appended_document_may_be_in_either_set(tmp_path: Path) -> None:
    train_bpe(["the cat 1234567890. " * 20], 270).save(tmp_path / "tokenizer")

    def rows(name: str, numbers: range) -> PrepareAndEncodeConfig:
        path = tmp_path / f"{name}.jsonl"
        lines = [json.dumps({"text": f"the cat {i}. " * 20}) for i in numbers]
        path.write_text("\n".join(lines) + "\n")
        return PrepareAndEncodeConfig(
            sources=(str(path),),
            out=tmp_path / "data",
            tokenizer=tmp_path / "tokenizer",
            append=name != "first",
        )

    prepare_and_encode(rows("first", range(1100)))
    for n in range(3):
        report = prepare_and_encode(rows(f"one-{n}", range(2000 + n, 2001 + n)))
        assert report.train.n_documents + report.validation.n_documents == 1101 + n


def story(n: int) -> str:
    return " ".join(f"The cat {k} sat on the mat." for k in range(n))


def texts(data: Path) -> list[str]:
    return [d.text for side in ("train", "validation") for d in read_corpus(data, side)]


def added(tmp_path: Path, *names: str) -> PrepareResult:
    sources = tuple(str(tmp_path / name) for name in names)
    return prepare(PrepareConfig(sources=sources, out=tmp_path / "data", append=True, audit=False))


@pytest.fixture
def two_files(tmp_path: Path) -> Path:
    """A folder with two files, and a corpus of the first, `data`, to which the other is added."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(f"{name}. {story(100)}")
    out = tmp_path / "data"
    prepare(PrepareConfig(sources=(str(tmp_path / "a.txt"),), out=out, audit=False))
    assert added(tmp_path, "b.txt").n_skipped_sources == 0
    return tmp_path


def test_a_file_that_was_only_touched_is_not_appended_again(two_files: Path) -> None:
    before = texts(two_files / "data")
    for name in ("a.txt", "b.txt"):
        os.utime(two_files / name, ns=(1, 1))
        assert added(two_files, name).n_skipped_sources == 1
    assert texts(two_files / "data") == before


@pytest.mark.parametrize("name", ["a.txt", "b.txt"])
def test_a_file_that_has_changed_is_not_appended_again(two_files: Path, name: str) -> None:
    before = texts(two_files / "data")
    with open(two_files / name, "a") as file:
        file.write("And one more.")
    (two_files / "c.txt").write_text(story(50))
    with pytest.raises(UserError, match="has changed since") as refused:
        added(two_files, "c.txt", name)
    assert str(two_files / name) in refused.value.located
    assert refused.value.command == (
        f"groundup prepare {two_files}/a.txt {two_files}/b.txt --no-audit --out {two_files}/data"
    )
    assert texts(two_files / "data") == before
    assert added(two_files, "c.txt").n_skipped_sources == 0


def test_a_pipe_is_appended(two_files: Path) -> None:
    for text in (story(30), story(40)):
        reading, writing = os.pipe()
        os.write(writing, text.encode())
        os.close(writing)
        n = len("".join(texts(two_files / "data")))
        added(two_files, f"/dev/fd/{reading}")
        os.close(reading)
        assert len("".join(texts(two_files / "data"))) == n + len(text)


def test_an_append_keeps_the_split(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(f"{name}. {story(100)}")
    data = tmp_path / "data"

    def run(name: str, **settings: Any) -> PrepareResult:
        return prepare(str(tmp_path / f"{name}.txt"), out=data, audit=False, **settings)

    run("a", seed=3, validation_frac=0.25)
    before = texts(data)
    for name, other, kept in (("seed", 4, 3), ("validation_frac", 0.5, 0.25)):
        with pytest.raises(UserError, match=f"split with {name}={kept}") as refused:
            run("b", append=True, **{name: other})
        assert refused.value.settings == {name: kept}
        assert texts(data) == before
    run("b", append=True, seed=3)
    run("c", append=True)
    assert sum(text.startswith(("a. ", "b. ", "c. ")) for text in texts(data)) == 3


def test_sources_that_were_read_in_several_ways_have_no_single_command(two_files: Path) -> None:
    data = two_files / "data"
    corpus, sources = data / "corpus", [f"{two_files}/{name}.txt" for name in ("a", "b")]
    words = " ".join(sources)
    assert f"prepare {words} --no" in prepare_command(data, read_json(corpus / "manifest.json"))
    (two_files / "c.txt").write_text("|".join(story(40 + n) for n in range(3)))
    config = PrepareConfig(
        sources=(f"{two_files}/c.txt",), out=data, append=True, audit=False, separator="|"
    )
    prepare(config)
    manifest = read_json(corpus / "manifest.json")
    assert [append["options"]["separator"] for append in manifest["appended"]] == [None, "|"]
    assert prepare_command(data, manifest) == ""
    n = len(texts(data))
    again = PrepareConfig(sources=(*sources, *config.sources), out=data, audit=False)
    assert prepare(again).n_skipped_sources == 0
    assert len(texts(data)) == n - 4, "two documents fewer, and a part of each on either side"
