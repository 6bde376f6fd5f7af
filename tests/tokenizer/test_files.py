"""Tokenizer folders: corrupt or unsupported ones are refused with a reason."""

import json
from pathlib import Path

import pytest

from groundup.base.errors import UserError
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.files import load_tokenizer, save_gpt2, save_tiktoken
from groundup.tokenizer.train_bpe import train_bpe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    train_bpe(["one two one two"], 265).save(tmp_path)
    return tmp_path


def test_vocabulary_txt_lists_every_id(folder: Path) -> None:
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


def test_tiktoken_ranks_come_back_with_the_same_merges(tmp_path: Path) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    load = pytest.importorskip("tiktoken.load").load_tiktoken_bpe
    text = "the window slides over the text, the window's 12 tokens\n\nand so on " * 3
    ours = train_bpe([text], 330)
    path = tmp_path / "mine.tiktoken"
    save_tiktoken(ours, path)
    back = load_tokenizer(path)
    assert isinstance(back, BPETokenizer)
    assert (back.merges, back.token_table) == (ours.merges, ours.token_table)
    theirs = tiktoken.Encoding(
        "mine", pat_str=ours.pattern, mergeable_ranks=load(str(path)), special_tokens={}
    )
    assert theirs.encode_ordinary(text) == ours.encode(text) == back.encode(text)


@pytest.mark.parametrize("folder", ["small_gpt2", "gpt2"])
def test_gpt2_s_ranks_give_gpt2_s_merges(
    folder: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    gpt2 = load_tokenizer(request.getfixturevalue(f"{folder}_folder"))
    assert isinstance(gpt2, BPETokenizer)
    path = tmp_path / "gpt2.tiktoken"
    save_tiktoken(gpt2, path)
    back = load_tokenizer(path)
    assert isinstance(back, BPETokenizer)
    assert back.merges == gpt2.merges
    assert back.pattern == gpt2.pattern


def test_gpt2_s_two_files_come_back(folder: Path, tmp_path: Path) -> None:
    ours = load_tokenizer(folder)
    assert isinstance(ours, BPETokenizer)
    ours = BPETokenizer(ours.merges, pattern="gpt2", special_tokens={"<|endoftext|>": 261})
    save_gpt2(ours, tmp_path / "two")
    back = load_tokenizer(tmp_path / "two")
    assert back.fingerprint == ours.fingerprint


@pytest.mark.parametrize(
    ("content", "words"),
    [("YQ== 0\nnot base64", ":2"), ("YQ== 1\n", "rank 1"), ("YQ== 0\nYmM= 1\n", "Token 1")],
)
def test_ranks_that_are_none(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "x.tiktoken").write_text(content)
    with pytest.raises(UserError, match=words):
        load_tokenizer(tmp_path)
