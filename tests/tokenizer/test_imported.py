"""Tokenizers that the library runs: its ids, text that stays text, and streams."""

import json
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from chat_templates import SPECIAL
from foreign_tokenizers import KINDS, SPACE, TEXT
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.extend import with_special_tokens
from groundup.tokenizer.huggingface import from_description
from groundup.tokenizer.imported import ImportedTokenizer

ANY_TEXT = st.lists(
    st.sampled_from(
        [
            *(*SPECIAL, "<think>", "<unk>", "<0x41>", " ", "  ", "\n", "2024", "the", "cat"),
            *(
                "e\u0301",
                "日本",
                "😀",
                SPACE,
                "<|im_",
                "end|>",
                "<",
                "|>",
                "s>",
                "Hello,",
                "\u0130",
            ),
        ]
    )
    | st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=4),
    max_size=10,
).map("".join)


def made(kind: str) -> Any:
    content = json.loads(json.dumps(KINDS[kind]))
    return from_description(content, Path("tokenizer.json"))


MADE = {kind: made(kind) for kind in KINDS}
THEIRS = {kind: tokenizers.Tokenizer.from_str(json.dumps(KINDS[kind])) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@given(text=ANY_TEXT)
@settings(max_examples=60, deadline=None)
def test_the_ids_are_those_of_the_library(kind: str, text: str) -> None:
    ours, theirs = MADE[kind], THEIRS[kind]
    assert ours.encode(text, "all") == theirs.encode(text, add_special_tokens=False).ids
    unknown = ours.special_tokens.get("<unk>")
    assert {i for i in ours.encode(text) if i != unknown}.isdisjoint(ours.special_tokens.values())
    some = ours.encode(text, {"</s>"})
    assert set(some) & set(ours.special_tokens.values()) <= {ours.special_tokens["</s>"], unknown}
    assert ours.encode(text, {"</s>"}).count(ours.special_tokens["</s>"]) == text.count("</s>")


def test_what_is_ours_stays_ours() -> None:
    assert isinstance(MADE["ours"], BPETokenizer)
    assert all(isinstance(MADE[kind], ImportedTokenizer) for kind in KINDS if kind != "ours")


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_of_tokens_is_the_whole(kind: str) -> None:
    ours, draw = MADE[kind], random.Random(0)
    for _ in range(200):
        ids = [draw.randrange(ours.vocab_size) for _ in range(draw.randrange(20))]
        stream = b"".join(map(ours.token_bytes, ids))
        assert stream.decode("utf-8", errors="replace") == ours.decode(ids)
    for name, index in ours.special_tokens.items():
        assert ours.token_bytes(index) == name.encode()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "words"])
def test_tokens_join_to_the_text(kind: str) -> None:
    for text in (TEXT, "日本語 😀 \u0001", "a  b\n\n c", "x" * 5000, ""):
        back = MADE[kind].decode(MADE[kind].encode(text))
        has_space = kind.startswith(("sentencepiece", "unigram")) and text != ""
        assert back == (f" {text}" if has_space else text)


@pytest.mark.parametrize("kind", KINDS)
def test_further_special_tokens(kind: str, tmp_path: Path) -> None:
    ours = MADE[kind]
    larger = with_special_tokens(ours, ["<|new|>", "<think>"])
    assert larger.special_tokens["<|new|>"] == ours.vocab_size
    if kind != "ours":
        assert larger.special_tokens["<think>"] == ours.encode("<think>")[-1]
    assert larger.encode("Hi<|new|>", "all")[-1] == ours.vocab_size
    assert ours.vocab_size not in larger.encode("Hi<|new|>")
    assert larger.encode(TEXT) == ours.encode(TEXT)
    if kind != "ours":
        assert pickle.loads(pickle.dumps(larger)).encode(TEXT) == ours.encode(TEXT)
    assert larger.fingerprint != ours.fingerprint


def test_one_bos_and_no_space_where_a_text_is_continued() -> None:
    ours = MADE["sentencepiece first"]
    assert ours.begin_ids == [1]
    assert ours.encode("the")[0] == ours.encode("the", is_continued=True)[0] or ours.decode(
        ours.encode("the")
    ) == " " + ours.decode(ours.encode("the", is_continued=True))


def test_text_that_is_none() -> None:
    for kind in ("nfc", "sentencepiece"):
        with pytest.raises(UserError, match="half of a surrogate pair"):
            MADE[kind].encode("a\ud800")
        with pytest.raises(UserError, match="no special token <nope>"):
            MADE[kind].encode("a", {"<nope>"})
        with pytest.raises(UserError, match="no token with id"):
            MADE[kind].token_bytes(MADE[kind].vocab_size)
        with pytest.raises(UserError, match="no token with id"):
            MADE[kind].token_bytes(-1)
