"""The keys that describe a tokenizer for llama.cpp are those of real files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_cpp import LlamaCpp, write_sentencepiece_gguf
from peers import smollm2

from groundup.base.errors import UserError
from groundup.base.files import read_json
from groundup.base.gguf import read_gguf_header
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.gguf import tokenizer_of_gguf
from groundup.tokenizer.gguf_keys import gguf_tokenizer
from groundup.tokenizer.huggingface import from_description

TEXT = "the cat sat on the mat and the dog sat on the log, in a café. " * 5


def keys_of(path: Path, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys of a file, and those that we write for its tokenizer."""
    metadata = read_gguf_header(path).metadata
    tokenizer = tokenizer_of_gguf(metadata, path)
    tokenizer.save(folder)
    n_rows = len(metadata["tokenizer.ggml.tokens"])
    found = gguf_tokenizer(tokenizer, read_json(folder / "tokenizer.json"), n_rows)
    assert not found.notes
    return dict(metadata), dict(found.keys)


def check_same(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    for name in ("model", "pre", "tokens", "token_type", "merges"):
        key = f"tokenizer.ggml.{name}"
        assert list(ours[key]) == list(theirs[key]), key


def test_the_keys_of_smollm2_come_back(tmp_path: Path) -> None:
    theirs, ours = keys_of(smollm2(), tmp_path / "tokenizer")
    check_same(theirs, ours)
    assert ours["tokenizer.ggml.add_bos_token"] is False


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt-2", "llama-bpe", "qwen2"])
def test_the_keys_of_published_vocabularies_come_back(
    tmp_path: Path, name: str, shared_data: Path
) -> None:
    path = shared_data / "ggml-vocab" / f"ggml-vocab-{name}.gguf"
    theirs, ours = keys_of(path, tmp_path / "tokenizer")
    check_same(theirs, ours)
    assert ours["tokenizer.ggml.add_bos_token"] is (name == "llama-bpe")


@pytest.mark.parity
def test_sentencepiece_comes_back_with_the_same_ids(tmp_path: Path) -> None:
    path = tmp_path / "spm.gguf"
    write_sentencepiece_gguf(path, TEXT)
    theirs, ours = keys_of(path, tmp_path / "tokenizer")
    assert ours["tokenizer.ggml.model"] == "llama"
    assert ours["tokenizer.ggml.add_space_prefix"] is True
    assert ours["tokenizer.ggml.add_bos_token"] is True
    for name in ("tokens", "token_type"):
        key = f"tokenizer.ggml.{name}"
        assert list(ours[key]) == list(theirs[key])
    scores = np.array(ours["tokenizer.ggml.scores"], np.float32)
    types = np.array(ours["tokenizer.ggml.token_type"], np.int32)
    again = {**ours, "tokenizer.ggml.scores": scores, "tokenizer.ggml.token_type": types}
    first = tokenizer_of_gguf(theirs, path)
    second = tokenizer_of_gguf({**theirs, **again}, path)
    judge = LlamaCpp(path)
    for text in (TEXT[:90], "  two  spaces", "dog log 12 😀", "\nand"):
        assert first.encode(text) == second.encode(text) == judge.tokenize(text)


def described(**changes: Any) -> dict[str, Any]:
    """The content of a tokenizer.json of GPT-2's kind."""
    from groundup.tokenizer.save import describe_bpe

    return {**describe_bpe(BPETokenizer([(104, 105)], pattern="gpt2")), **changes}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "normalizes a text by: Lowercase"),
        (
            {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True,
                               "trim_offsets": True}},
            "cuts a text by: ByteLevel",
        ),
        (
            {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Punctuation", "behavior": "Isolated"},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True,
                 "trim_offsets": True}]}},
            "cuts a text by: Punctuation, gpt2, bytes",
        ),
    ],
)  # fmt: skip
def test_steps_that_llama_cpp_lacks_are_named(changes: dict[str, Any], said: str) -> None:
    description = described(**changes)
    tokenizer = from_description(description, Path("tokenizer.json"))
    with pytest.raises(UserError, match=said):
        gguf_tokenizer(tokenizer, description, tokenizer.vocab_size)


def test_composed_characters_are_noted() -> None:
    description = described(normalizer={"type": "NFC"})
    tokenizer = from_description(description, Path("tokenizer.json"))
    found = gguf_tokenizer(tokenizer, description, tokenizer.vocab_size)
    assert found.keys["tokenizer.ggml.pre"] == "gpt-2"
    assert "NFC" in found.notes[0]


def test_without_merges_there_is_nothing_that_llama_cpp_reads() -> None:
    tokenizer = BPETokenizer([])
    with pytest.raises(UserError, match="has no merges"):
        gguf_tokenizer(tokenizer, {}, tokenizer.vocab_size)
