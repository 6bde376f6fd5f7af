"""Commands replace nothing but what they made of the same sources, and nothing that a run needs."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from faults import digest
from small_runs import settings

from groundup.base.dependents import runs_on
from groundup.base.errors import UserError
from groundup.cli.main import main
from groundup.data.config import (
    EncodeConfig,
    PrepareAndEncodeConfig,
    TrainAndEncodeConfig,
    VerifyConfig,
)
from groundup.data.encode import encode
from groundup.data.pipeline import prepare_and_encode, train_and_encode
from groundup.data.store import TokenStore
from groundup.data.verify import verify
from groundup.pretraining.pretrain import pretrain
from groundup.text.config import PrepareConfig
from groundup.text.prepare import prepare
from groundup.tokenizer.config import TrainTokenizerConfig
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.train import train_tokenizer
from groundup.train.data import open_data

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run-0.1.0"
TEXT = "The cat sat on the mat and the dog ran over the hill. "


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        Path(f"{name}.txt").write_text(f"{name}. " + TEXT * 40)
    return tmp_path


def make(*words: str, out: str = "data", **more: Any) -> Path:
    config = PrepareAndEncodeConfig(sources=words, out=Path(out), audit=False, **more)
    return prepare_and_encode(config).data


def make_all(*words: str, vocab_size: int = 265) -> Path:
    data = make(*words)
    train_and_encode(TrainAndEncodeConfig(data=data, vocab_size=vocab_size))
    return data


def train_a_run(out: str = "runs/pretrain") -> Path:
    return pretrain(
        settings(Path("data"), out=Path(out), steps=2, curves=False, sample_every=None)
    ).run


def refused(data: Path, command: Any, *words: Any, **more: Any) -> UserError:
    before = digest(data)
    with pytest.raises(UserError) as caught:
        command(*words, **more)
    assert digest(data) == before
    return caught.value


def test_other_sources_are_refused_and_the_printed_command_works(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_all("one.txt")
    before = digest(data)
    assert main(["prepare", "two.txt"]) == 1
    message = capsys.readouterr().err
    assert "already contains a corpus of 1 document from" in message
    assert "one.txt" in message
    command = shlex.split(message.split("Try: ")[1])
    assert command == ["groundup", "prepare", "two.txt", "--out", "data-2"]
    assert main(command[1:]) == 0
    assert digest(data) == before
    assert main(["prepare", "two.txt"]) == 1
    assert "--out data-3" in capsys.readouterr().err
    assert main(["prepare", "two.txt", "--overwrite"]) == 0
    assert not (data / "train").exists()
    assert main(["train-tokenizer", "--vocab-size", "265"]) == 0, "no run needs the old one"
    assert verify(VerifyConfig(data=data)).notes == ()


def test_what_was_appended_is_not_lost(work: Path) -> None:
    data = make("one.txt")
    make("two.txt", append=True)
    assert "one.txt, " in refused(data, make, "one.txt").message
    refused(data, make, "two.txt")
    before = digest(data)
    for words in (("one.txt", "two.txt"), ("*.txt",)):
        make(*words)
        assert digest(data) == before


def test_edited_sources_are_prepared_again(work: Path) -> None:
    data = make_all("one.txt")
    Path("one.txt").write_text("edited. " + TEXT * 50)
    os.chdir("data")
    prepare(PrepareConfig(sources=("../one.txt",), out=Path("../data"), audit=False))
    os.chdir("..")
    assert not (data / "train").exists()
    train_and_encode(TrainAndEncodeConfig(data=data, vocab_size=265))
    assert verify(VerifyConfig(data=data)).notes == ()
    Path("texts").mkdir()
    shutil.copy("one.txt", "texts/a.txt")
    make("texts", out="other")
    shutil.copy("two.txt", "texts/b.txt")
    assert (
        prepare(PrepareConfig(sources=("texts",), out=Path("other"), audit=False)).train.n_documents
        == 2
    )


def test_a_text_that_a_run_was_trained_on_is_not_replaced(work: Path) -> None:
    data = make_all("one.txt")
    run = train_a_run()
    assert [place.resolve() for place in runs_on(data)] == [run.resolve()]
    make("one.txt")
    stamp = Path("one.txt").stat()
    os.utime("one.txt", ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 10**9))
    make("one.txt")  # the same text
    assert runs_on(data)
    Path("one.txt").write_text("edited. " + TEXT * 50)
    for changed in ({}, {"seed": 5}):
        error = refused(data, make, "one.txt", **changed)
        assert f"The run {run} was trained" in error.message
        assert error.settings == {"out": "data-2"}
    make("one.txt", overwrite=True)
    assert runs_on(data) == []
    make_all("one.txt")
    Path("one.txt").write_text("edited again. " + TEXT * 50)
    make("one.txt")


@pytest.mark.parametrize("place", ["runs/a", "elsewhere/data/../../runs/a", "story"])
def test_a_run_is_found_wherever_it_is(work: Path, place: str) -> None:
    data = make_all("one.txt")
    train_a_run("story/run")
    if place == "story":  # RUN/data
        shutil.move("story/run", "run")
        shutil.copytree(data, "run/data")
        manifest = json.loads(Path("run/manifest.json").read_text())
        manifest |= {"data": str(Path("run/data").resolve()), "data_relative_to_run": "data"}
        Path("run/manifest.json").write_text(json.dumps(manifest))
        assert len(runs_on(Path("run/data"))) == 1
        assert runs_on(data) == []
        return
    Path("runs").mkdir()
    shutil.move("story/run", "runs/a")
    assert len(runs_on(data)) == 1
    Path("away").mkdir()
    os.chdir("away")
    assert len(runs_on(Path("../data"))) == 1


def test_a_run_folder_is_no_data_folder(work: Path) -> None:
    make_all("one.txt")
    run = train_a_run()
    for overwrite in (False, True):
        error = refused(run, make, "one.txt", out=str(run), overwrite=overwrite)
        assert "run folder" in error.message
        assert error.settings == {"out": "runs/pretrain-2"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_that_groundup_did_not_write_are_never_replaced(work: Path, overwrite: bool) -> None:
    for name in ("corpus", "tokenizer", "train"):
        folder = Path("mine") / name
        folder.mkdir(parents=True)
        (folder / "thesis.py").write_text("important")
    mine = Path("mine")
    error = refused(mine, make, "one.txt", out="mine", overwrite=overwrite)
    assert "not part of a corpus" in error.message
    assert error.settings == {"out": "mine-2"}
    shutil.move("mine/corpus", "mine/texts")
    make("one.txt", out="mine")
    train = TrainAndEncodeConfig(data=mine, vocab_size=265, overwrite=overwrite)
    assert "thesis.py" in refused(mine, train_and_encode, train).message
    shutil.move("mine/tokenizer", "mine/code")
    assert "not overwritten" in refused(mine, train_and_encode, train).message
    assert len(list(mine.rglob("thesis.py"))) == 3


def test_the_folder_of_the_texts_can_be_the_data_folder(work: Path) -> None:
    Path("data").mkdir()
    shutil.move("one.txt", "data/book.txt")
    data = make("data/book.txt")
    before = digest(data)
    make("data/book.txt")
    assert digest(data) == before
    assert (data / "book.txt").is_file()


def test_stores_of_unknown_origin_are_not_removed(work: Path) -> None:
    data = make_all("one.txt", vocab_size=265)
    store = TokenStore.open(data / "train")
    shutil.rmtree(data / "corpus")
    assert "was not made from a corpus" in refused(data, make, "one.txt").message
    TokenStore.build(
        "converted/train",
        [store.read(0, 50).tolist()],
        vocab_size=store.vocab_size,
        tokenizer_fingerprint="x",
        end_of_text=None,
    )
    error = refused(Path("converted"), make, "one.txt", out="converted")
    assert error.settings == {"out": "converted-2"}
    make("one.txt", out="converted", overwrite=True)
    assert not Path("converted/train").exists()


def test_standard_input_is_another_text_each_time(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pipe(name: str, **more: Any) -> None:
        with open(name, "rb") as file:
            monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": file}))
            make("-", **more)

    pipe("one.txt")
    pipe("one.txt")
    assert "another one" in refused(Path("data"), pipe, "two.txt").message
    pipe("two.txt", overwrite=True)


def run_printed(command: str) -> None:
    for part in re.split(" && ", command):
        words = shlex.split(part)
        if words[0] == "groundup":
            assert main(words[1:]) == 0
        else:
            subprocess.run(words, check=True)


@pytest.mark.parametrize(
    "other",
    [{"vocab_size": 270}, {"kind": "characters"}, {"pattern": "gpt2"}, {"pattern": r"\S+|\s+"}],
    ids=str,
)
def test_a_tokenizer_with_other_settings_is_not_replaced(work: Path, other: dict[str, Any]) -> None:
    data = make_all("one.txt")
    for train in (train_tokenizer, train_and_encode):
        asked = TrainAndEncodeConfig(data=data, **{"vocab_size": 265, **other})
        error = refused(data, train, asked)
        assert "already has a tokenizer with 265 tokens" in error.message
    run_printed(error.command)
    assert verify(VerifyConfig(data=Path("data-2"))).notes == ()
    train_and_encode(
        TrainAndEncodeConfig(data=data, **{"vocab_size": 265, **other}, overwrite=True)
    )
    assert load_tokenizer(data / "tokenizer").fingerprint == (
        load_tokenizer(Path("data-2/tokenizer")).fingerprint
    )
    assert verify(VerifyConfig(data=data)).notes == ()


def test_the_same_settings_are_no_change_even_if_a_run_needs_them(work: Path) -> None:
    data = make_all("one.txt")
    train_a_run()
    before = digest(data)
    train_and_encode(TrainAndEncodeConfig(data=data, vocab_size=265))
    encode(EncodeConfig(data=data, tokenizer=data / "tokenizer"))
    assert digest(data) == before
    (data / "tokenizer" / "training.json").unlink()  # as earlier versions left it
    train_and_encode(TrainAndEncodeConfig(data=data, vocab_size=265))
    assert digest(data) == before
    (data / "tokenizer" / "training.json").unlink()
    refused(data, train_and_encode, TrainAndEncodeConfig(data=data, vocab_size=262))


def test_after_an_append_the_tokenizer_of_a_run_stays(work: Path) -> None:
    data = make("one.txt")
    Path("more.txt").write_text("Zebras quiver. " * 300)
    make("more.txt", append=True)
    train_tokenizer(TrainTokenizerConfig(data=data, vocab_size=265))
    encode(EncodeConfig(data=data))
    make("two.txt", append=True)
    train_a_run()
    config = TrainTokenizerConfig(data=data, vocab_size=265)
    assert "runs/pretrain was trained with" in refused(data, train_tokenizer, config).message


def test_a_run_keeps_its_stores_from_another_tokenizer(work: Path) -> None:
    data = make_all("one.txt")
    other = Path("other")
    make("one.txt", out="other")
    train_tokenizer(TrainTokenizerConfig(data=other, vocab_size=262))
    run = train_a_run()
    asked = EncodeConfig(data=data, tokenizer=other / "tokenizer")
    error = refused(data, encode, asked)
    assert f"the run {run} was trained with" in error.message
    refused(data, make, "one.txt", tokenizer=other / "tokenizer")
    run_printed(error.command)
    assert load_tokenizer(Path("data-2/tokenizer")).vocab_size == 262
    shutil.rmtree(data / "tokenizer")
    shutil.copytree(other / "tokenizer", data / "tokenizer")
    error = refused(data, encode, EncodeConfig(data=data))
    assert f"the run {run} was trained on it" in error.message
    run_printed(error.command)
    assert verify(VerifyConfig(data=Path("data-3"))).notes == ()


def as_version_0_1(data: Path) -> None:
    """Take away what version 0.1 did not write."""
    manifest = json.loads((data / "corpus" / "manifest.json").read_text())
    del manifest["sources"]
    (data / "corpus" / "manifest.json").write_text(json.dumps(manifest))
    (data / "tokenizer" / "training.json").unlink(missing_ok=True)


def test_data_of_version_0_1_is_read_appended_to_and_not_lost(work: Path) -> None:
    data = shutil.copytree(FIXTURE / "data", work / "old")
    assert verify(VerifyConfig(data=data)).notes == ()
    refused(data, make, "one.txt", out="old")
    make("one.txt", out="old", append=True)
    assert verify(VerifyConfig(data=data)).notes == ()
    assert "/home/user/text.txt" in refused(data, make, "one.txt", out="old").message
    config = TrainAndEncodeConfig(data=data, vocab_size=280)
    refused(data, train_and_encode, config)  # trained on the shorter text
    fresh = shutil.copytree(FIXTURE / "data", work / "fresh")
    train_and_encode(TrainAndEncodeConfig(data=fresh, vocab_size=280))
    assert digest(fresh).keys() - digest(FIXTURE / "data").keys() == {"tokenizer/training.json"}


def test_the_same_sources_as_in_version_0_1_are_prepared_again(work: Path) -> None:
    data = make_all("one.txt")
    as_version_0_1(data)
    make("one.txt")
    refused(data, make, "two.txt")
    Path("one.txt").write_text("edited. " + TEXT * 50)
    make("one.txt", "two.txt")


def test_the_command_that_repairs_a_corpus_makes_the_same_one(work: Path) -> None:
    data = make("two.txt", seed=3, validation_frac=0.25)
    make("one.txt", append=True)
    before = (data / "corpus" / "train.jsonl").read_bytes()
    (data / "corpus" / "train.jsonl").write_bytes(before[:-9] + b"x" + before[-8:])
    with pytest.raises(UserError, match="corrupt") as caught:
        verify(VerifyConfig(data=data))
    run_printed(str(caught.value).split("Try: ")[1])
    assert (data / "corpus" / "train.jsonl").read_bytes() == before
    assert "files, not prepared data" in str(refused(work, open_data, work))


def test_an_append_to_the_data_of_a_run_is_warned_of(
    work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_all("one.txt")
    run = train_a_run()
    make("two.txt", append=True)
    assert f"The run {run} was trained on this data" in caplog.text


def test_folders_beside_the_data_that_cannot_be_read_do_no_harm(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make("one.txt")
    Path("runs/closed").mkdir(parents=True)
    real_stat, real_scan = os.stat, os.scandir

    def closed(path: Any) -> None:
        if "closed" in str(path):
            raise PermissionError(13, "Permission denied", str(path))

    def stat(path: Any, **more: Any) -> Any:
        closed(path if str(path) != "runs/closed" else "")
        return real_stat(path, **more)

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(os, "scandir", lambda path=".": (closed(path), real_scan(path))[1])
    assert runs_on(data) == []


@pytest.mark.parametrize("text", ["{}", "not json", "[1]"])
def test_a_project_with_files_named_like_those_of_a_run_holds_data(work: Path, text: str) -> None:
    Path("config.toml").write_text("a = 1")
    Path("manifest.json").write_text(text)
    make("one.txt", out=".")
    Path("corpus/.DS_Store").touch()
    Path("one.txt").write_text("edited. " + TEXT * 50)
    make("one.txt", out=".")
    Path("one.txt").write_text("edited again. " + TEXT * 50)
    Path("corpus/notes.md").write_text("mine")
    assert "corpus" in str(refused(work, make, "one.txt", out=".").where)
