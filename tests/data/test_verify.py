"""`verify` finds parts of a data folder that do not belong together, and says what to type."""

import json
import random
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from small_runs import WORDS

from groundup.base.errors import UserError
from groundup.cli.main import main
from groundup.data.config import PrepareAndEncodeConfig, TrainAndEncodeConfig, VerifyConfig
from groundup.data.pipeline import prepare_and_encode, train_and_encode
from groundup.data.store import TokenStore
from groundup.data.verify import verify
from groundup.text.config import PrepareConfig
from groundup.text.prepare import prepare
from groundup.tokenizer.train_bpe import train_bpe


def documents(path: Path, seeds: range) -> str:
    rows = (" ".join(random.Random(seed).choices(WORDS, k=30)) for seed in seeds)
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), "utf-8")
    return str(path)


def make(folder: Path, source: str, vocab_size: int = 270) -> Path:
    prepare(PrepareConfig(sources=(source,), out=folder, validation_frac=0.3, audit=False))
    train_and_encode(TrainAndEncodeConfig(data=folder, vocab_size=vocab_size))
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make(tmp_path / "data", documents(tmp_path / "1.jsonl", range(40)))


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return make(tmp_path / "other", documents(tmp_path / "2.jsonl", range(100, 160)))


def replace(place: Path, by: Path) -> None:
    shutil.rmtree(place)
    shutil.copytree(by, place)


def refused(data: Path) -> str:
    with pytest.raises(UserError) as caught:
        verify(VerifyConfig(data=data))
    return str(caught.value)


def type_what_it_says(message: str) -> None:
    """Run the commands that a message ends with, as a shell would."""
    for command in re.split(r" && ", message.split(" Try: ")[-1]):
        words = shlex.split(command)
        if words[0] == "groundup":
            assert main(words[1:]) == 0
        else:
            subprocess.run(words, check=True)


@pytest.mark.parametrize("sides", [("train",), ("validation",), ("train", "validation")])
def test_stores_of_another_text(data: Path, other: Path, sides: tuple[str, ...]) -> None:
    for side in sides:
        replace(data / side, other / side)
    replace(data / "tokenizer", other / "tokenizer")
    if len(sides) == 1:  # the other side as this tokenizer encodes it
        left = "validation" if sides == ("train",) else "train"
        shutil.rmtree(data / left)
    message = refused(data)
    for side in sides:
        assert f"{data / side} does not belong to the corpus" in message
    type_what_it_says(message)
    assert verify(VerifyConfig(data=data.with_name("data-2"))).notes == ()


def test_a_corpus_of_another_text(data: Path, other: Path) -> None:
    replace(data / "corpus", other / "corpus")
    assert "does not belong to the corpus" in refused(data)


def test_a_corpus_that_is_older_than_the_stores(data: Path, tmp_path: Path) -> None:
    old = shutil.copytree(data / "corpus", tmp_path / "old")
    more = documents(tmp_path / "3.jsonl", range(40, 80))
    prepare_and_encode(PrepareAndEncodeConfig(sources=(more,), out=data, append=True, audit=False))
    assert verify(VerifyConfig(data=data)).notes == ()
    replace(data / "corpus", old)
    assert "does not belong to the corpus" in refused(data)


def test_what_is_not_encoded_yet_is_stated(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = shutil.copytree(data / "validation", tmp_path / "old")
    more = documents(tmp_path / "3.jsonl", range(40, 80))
    prepare(PrepareConfig(sources=(more,), out=data, append=True, audit=False))
    notes = verify(VerifyConfig(data=data)).notes
    counts = [int(note.split()[-2]) for note in notes]
    assert [note.split(":")[0] for note in notes] == ["train", "validation"]
    assert sum(counts) == 40
    assert main(["verify", str(data)]) == 0
    output = capsys.readouterr().out
    assert f"not yet encoded: {counts[0]} documents" in output
    assert f"groundup encode {data}" in output
    assert main(["encode", str(data)]) == 0
    assert verify(VerifyConfig(data=data)).notes == ()
    replace(data / "validation", old)
    assert verify(VerifyConfig(data=data)).notes == (
        f"validation: not yet encoded: {counts[1]} documents.",
    )
    shutil.rmtree(data / "validation")
    assert "validation: not yet encoded" in verify(VerifyConfig(data=data)).notes[0]


def test_a_store_that_lacks_a_document(data: Path) -> None:
    store = TokenStore.open(data / "train")
    starts = [*store.document_starts.tolist(), store.n_tokens]
    pieces = [store.read(a, b) for a, b in zip(starts[:-2], starts[1:-1], strict=True)]
    TokenStore.build(
        data / "train",
        [piece.tolist() for piece in pieces],
        vocab_size=store.vocab_size,
        tokenizer_fingerprint=store.tokenizer_fingerprint,
        end_of_text=None,
        sources=store.manifest["sources"],
    )
    type_what_it_says(refused(data))
    assert verify(VerifyConfig(data=data.with_name("data-2"))).notes == ()
    assert main(["encode", str(data)]) == 0
    assert verify(VerifyConfig(data=data)).notes == ()


def test_a_store_that_does_not_state_its_text(data: Path) -> None:
    store = TokenStore.open(data / "train")
    TokenStore.build(
        data / "train",
        [store.read(0, store.n_tokens).tolist()],
        vocab_size=store.vocab_size,
        tokenizer_fingerprint=store.tokenizer_fingerprint,
        end_of_text=None,
    )
    assert "made from an unknown text" in refused(data)


def test_another_tokenizer_beside_the_stores(data: Path) -> None:
    train_bpe(["oak oak oak oak"], 262).save(data / "tokenizer")
    message = refused(data)
    assert message.count("a different tokenizer") == 2
    type_what_it_says(message)
    assert verify(VerifyConfig(data=data)).notes == ()


def test_two_sides_of_different_tokenizers(data: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other", str(tmp_path / "1.jsonl"), vocab_size=265)
    replace(data / "validation", other / "validation")
    tokenizer = shutil.move(data / "tokenizer", tmp_path / "tokenizer")
    assert "different tokenizers" in refused(data)
    shutil.move(tokenizer, data / "tokenizer")
    message = refused(data)
    assert f"{data / 'validation'}: " in message
    type_what_it_says(message)
    assert verify(VerifyConfig(data=data)).notes == ()
