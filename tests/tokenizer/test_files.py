"""Tokenizer folders: damaged or foreign ones are refused with a reason."""

import json
from pathlib import Path

import pytest

from groundup.base.errors import UserError
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.train_bpe import train_bpe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    train_bpe(["one two one two"], 265).save(tmp_path)
    return tmp_path


def test_the_vocabulary_for_the_eye_lists_every_id(folder: Path) -> None:
    lines = (folder / "vocabulary.txt").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) >= load_tokenizer(folder).vocab_size


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train-tokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("type", "Unigram"), ("merges", [["x", "y"]])],
)
def test_a_foreign_or_damaged_model(folder: Path, key: str, value: object) -> None:
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["model"][key] = value
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        load_tokenizer(folder)


def test_a_file_cut_short(folder: Path) -> None:
    file = folder / "tokenizer.json"
    file.write_text(file.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        load_tokenizer(folder)
