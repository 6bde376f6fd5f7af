"""Tokenizer folders: corrupt or unsupported ones are refused with a reason."""

import base64
import json
import subprocess
from pathlib import Path

import pytest

from groundup.base.errors import UserError
from groundup.tokenizer import ranks
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.files import load_tokenizer, save_gpt2, save_tiktoken
from groundup.tokenizer.ranks import PUBLISHED, Published
from groundup.tokenizer.round_trip import CANARY
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
    back = load_tokenizer(path, pattern="gpt4")
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


def ranks_of(tokenizer: BPETokenizer) -> dict[bytes, int]:
    special = set(tokenizer.special_tokens.values())
    return {t: i for i, t in enumerate(tokenizer.token_table) if i not in special}


@pytest.mark.parametrize("name", ["gpt2", "r50k_base", "p50k_base", "cl100k_base", "o200k_base"])
def test_published_ranks_have_their_pattern(name: str, tmp_path: Path) -> None:
    """Each pattern cuts the text elsewhere; the file has the ranks of a small vocabulary."""
    tiktoken = pytest.importorskip("tiktoken")
    public = pytest.importorskip("tiktoken_ext.openai_public")
    none = "import sys"
    with pytest.MonkeyPatch.context() as patch:
        for load in ("load_tiktoken_bpe", "data_gym_to_mergeable_bpe_ranks"):
            patch.setattr(public, load, lambda *_, **__: none)
        about = getattr(public, name)()
    text = "it's It's IT'S CamelCase getURL 1234567\n\n  /a/b ;;\n/x  cafés" * 3
    ours = train_bpe([text], 330, pattern=PUBLISHED[name.split("_")[0]].pattern)
    save_tiktoken(ours, tmp_path / f"{name}.tiktoken")
    back = load_tokenizer(tmp_path)
    theirs = tiktoken.Encoding(
        name, pat_str=about["pat_str"], mergeable_ranks=ranks_of(ours), special_tokens={}
    )
    for sample in (text, CANARY, "It's CamelCase a./b\n/c"):
        assert back.encode(sample) == theirs.encode_ordinary(sample)
    known = PUBLISHED[name.split("_")[0]]
    assert known.special_tokens == about["special_tokens"]
    assert about.get("explicit_n_vocab", known.n_ranks + 1) == known.n_ranks + 1


def test_published_special_tokens_fill_the_hole_in_the_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in p50k_base, where <|endoftext|> is in the middle of the ranks."""
    known = Published("gpt2", 257, {"<|endoftext|>": 256, "<|x|>": 259})
    monkeypatch.setitem(ranks.PUBLISHED, "p50k", known)
    ordered = [bytes([value]) for value in range(256)]
    lines = [f"{base64.b64encode(token).decode()} {rank}" for rank, token in enumerate(ordered)]
    (tmp_path / "p50k_base.tiktoken").write_text("\n".join([*lines, "YWI= 257"]) + "\n")
    back = load_tokenizer(tmp_path)
    assert back.encode("ab<|endoftext|><|x|>", "all") == [257, 256, 259]
    assert back.vocab_size == 260


@pytest.mark.parametrize("pattern", ["gpt2", r"\p{N}{1,3}+|\p{L}+", r"\d+"])
def test_other_ranks_need_their_pattern(pattern: str, tmp_path: Path, small_gpt2_folder) -> None:
    gpt2 = load_tokenizer(small_gpt2_folder)
    assert isinstance(gpt2, BPETokenizer)
    path = tmp_path / "my ranks.tiktoken"
    save_tiktoken(gpt2, path)
    with pytest.raises(UserError, match=r"does not contain the pattern.*`pattern`") as caught:
        load_tokenizer(path)
    # The command works as it is printed.
    run = subprocess.run(caught.value.command, shell=True, cwd=tmp_path, capture_output=True)
    assert run.returncode == 0, run.stderr
    written = load_tokenizer(tmp_path / "tokenizer")
    assert written.encode(CANARY) == load_tokenizer(path, pattern="gpt2").encode(CANARY)
    chosen = load_tokenizer(path, pattern=pattern)
    assert chosen.decode(chosen.encode(CANARY)) == CANARY
    chosen.save(tmp_path / "chosen")
    assert load_tokenizer(tmp_path / "chosen").fingerprint == chosen.fingerprint


def test_several_files_with_ranks(tmp_path: Path) -> None:
    for name in ("a.tiktoken", "b.tiktoken"):
        (tmp_path / name).write_text("YQ== 0\n")
    with pytest.raises(UserError, match=r"2 files with ranks: a\.tiktoken, b\.tiktoken"):
        load_tokenizer(tmp_path)


def test_a_vocabulary_without_end_of_text_needs_its_pattern(tmp_path: Path) -> None:
    """As RoBERTa's and Qwen's; with another pattern the ids would be others."""
    ours = train_bpe(["the cat sat"] * 9, 262, pattern="gpt2", special_tokens=())
    save_gpt2(ours, tmp_path)
    with pytest.raises(UserError, match=r"vocab\.json: .*does not contain the pattern"):
        load_tokenizer(tmp_path)
    back = load_tokenizer(tmp_path, pattern="gpt2")
    assert back.special_tokens == {}
    assert back.fingerprint == ours.fingerprint


@pytest.mark.parametrize(("pattern", "special"), [("gpt4", "<|endoftext|>"), ("gpt2", "<|user|>")])
def test_what_gpt2_s_files_cannot_hold_is_not_written(pattern, special, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither the pattern nor which tokens are special"):
        save_gpt2(BPETokenizer([], pattern=pattern, special_tokens={special: 256}), tmp_path)


@pytest.mark.parametrize(
    ("vocab", "merges", "message"),
    [
        ({"a": "x"}, "", r'vocab\.json: .*a is "x"'),
        ({"a": True}, "", r"vocab\.json: .*a is true"),
        ({"<|endoftext|>": 0}, "", "no token for 256 of the 256 bytes"),
        (None, "x", r"merges\.txt:1: This line is 'x'"),
        (None, "#version: 0.2\na b c", r"merges\.txt:2: "),
        (None, "a nope", r"Merge 0 is \('a', 'nope'\)"),
        (None, "a b", "Merge 0 makes b'ab'"),
        (None, b"\xff\xfe", r"merges\.txt: This file is not UTF-8"),
    ],
)
def test_two_files_that_are_none(
    tmp_path: Path, vocab: dict | None, merges: str | bytes, message: str
) -> None:
    save_gpt2(BPETokenizer([], pattern="gpt2", special_tokens={"<|endoftext|>": 256}), tmp_path)
    if vocab is not None:
        (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    written = merges if isinstance(merges, bytes) else merges.encode()
    (tmp_path / "merges.txt").write_bytes(written)
    with pytest.raises(UserError, match=message):
        load_tokenizer(tmp_path, pattern="gpt2")


def test_gpt2_s_two_files_come_back(folder: Path, tmp_path: Path) -> None:
    ours = load_tokenizer(folder)
    assert isinstance(ours, BPETokenizer)
    ours = BPETokenizer(ours.merges, pattern="gpt2", special_tokens={"<|endoftext|>": 261})
    save_gpt2(ours, tmp_path / "two")
    back = load_tokenizer(tmp_path / "two")
    assert back.fingerprint == ours.fingerprint


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("YQ== 0\nnot base64", ":2"),
        ("YQ== 1\n", "rank 1"),
        ("YQ== 0\nYmM= 1\n", "Token 1"),
        ("YQ== 0\nYQ== 1\n", "b'a' is in line 1 already"),
        ("YQ== 0\n", "no token for 255 of the 256 bytes"),
        (f"YQ== {'9' * 5000}\n", ":1: This line is not a token"),
        ("YQ== -0\n", ":1: This line is not a token"),
        ("YQ==\u00a00\n", ":1: This line is not a token"),
    ],
)
def test_ranks_that_are_none(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "x.tiktoken").write_text(content)
    with pytest.raises(UserError, match=words):
        load_tokenizer(tmp_path, pattern="gpt4")
