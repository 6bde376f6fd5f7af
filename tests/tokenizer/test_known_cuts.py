"""Imported tokenizers whose text is encoded in pieces: the ids are those of the whole text."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from foreign_tokenizers import KINDS, TEXT
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import smollm2

from groundup.base.gguf import read_gguf_header
from groundup.text.pieces import safe_cut
from groundup.tokenizer import fast
from groundup.tokenizer.fast import fast_encoder
from groundup.tokenizer.gguf import PRE, tokenizer_of_gguf
from groundup.tokenizer.huggingface import from_description
from groundup.tokenizer.imported import ImportedTokenizer
from groundup.tokenizer.known_cuts import _CUTTING, GPT2, cuts_at_pieces

REAL = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
TEXTS = st.lists(
    st.sampled_from(
        [
            *(" ", " ", "\n", "\n", "\r\n", "\t", "\u3000", "\u00a0", "\x1c", "\u0085", "'", "'s"),
            *("'LL", "a", "Éa", "7", "123", "!", "/", "-", "<think>", "e\u0301", "\u0301", "日本"),
            *("。", "，", "か\u3099", "\u1100\u1161", "</s>", "\u2581", "\v"),
        ]
    )
    | st.characters(exclude_categories=["Cs"]),
    max_size=40,
).map("".join)


def with_steps(*steps: dict[str, Any], normalizer: str | None = None) -> dict[str, Any]:
    content = json.loads(json.dumps(KINDS["bytes"]))
    last = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    pre_tokenizers = [*steps, {**last, "use_regex": False}]
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": pre_tokenizers}
    content["normalizer"] = normalizer and {"type": normalizer}
    return content


def split(pattern: str) -> dict[str, Any]:
    regex = {"Regex": pattern}
    return {"type": "Split", "pattern": regex, "behavior": "Isolated", "invert": False}


def imported(content: dict[str, Any]) -> ImportedTokenizer:
    return ImportedTokenizer(content, where="tokenizer.json")


CUTTING = {
    **{kind: imported(KINDS[kind]) for kind in ("bytes", "digits", "nfc", "stripping")},
    **{name: imported(with_steps(*steps)) for name, steps in PRE.items()},
    **{pattern: imported(with_steps(split(pattern))) for pattern in sorted(_CUTTING)},
    "nfc and digits": imported(with_steps(*PRE["smollm"], normalizer="NFC")),
}


@pytest.mark.parametrize("kind", CUTTING)
@given(text=TEXTS, goal=st.integers(1, 30))
@settings(max_examples=80, deadline=None)
def test_a_safe_cut_changes_no_id(kind: str, text: str, goal: int) -> None:
    tokenizer, cut = CUTTING[kind], safe_cut(text, goal)
    assert tokenizer.cuts_at_pieces
    if cut is not None:
        halves = [*tokenizer.encode(text[:cut]), *tokenizer.encode(text[cut:])]
        assert halves == tokenizer.encode(text)


@pytest.mark.parametrize("kind", [*CUTTING, *KINDS])
@pytest.mark.parametrize("text", [REAL, TEXT, "x" * 300, ""])
def test_encoding_in_pieces_gives_the_same_ids(
    kind: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = CUTTING.get(kind) or from_description(KINDS[kind], Path("tokenizer.json"))
    monkeypatch.setattr(fast, "_PIECE_CHARACTERS", 50)
    assert fast_encoder(tokenizer)(text).tolist() == tokenizer.encode(text)


def test_smollm2_takes_little_memory_for_a_large_text(monkeypatch: pytest.MonkeyPatch) -> None:
    path = smollm2()
    tokenizer = tokenizer_of_gguf(read_gguf_header(path).metadata, path)
    encoded: list[int] = []
    engine = ImportedTokenizer._encoded

    def spy(self: ImportedTokenizer, text: str, *rest: Any, **more: Any) -> Any:
        encoded.append(len(text))
        return engine(self, text, *rest, **more)

    expected = tokenizer.encode(REAL * 20)
    monkeypatch.setattr(ImportedTokenizer, "_encoded", spy)
    assert fast_encoder(tokenizer)(REAL * 20).tolist() == expected
    assert len(encoded) > 1
    assert max(encoded) <= fast._PIECE_CHARACTERS


def changed(**more: Any) -> dict[str, Any]:
    return {**KINDS["bytes"], **more}


def with_token(content: str, **flags: bool) -> dict[str, Any]:
    *others, last = KINDS["bytes"]["added_tokens"]
    return changed(added_tokens=[*others, {**last, "content": content, "special": False, **flags}])


@pytest.mark.parametrize(
    "content",
    [
        *(KINDS[kind] for kind in ("sentencepiece", "sentencepiece first", "unigram", "words")),
        KINDS["whole words first"],
        changed(normalizer={"type": "NFKC"}),
        changed(pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True}),
        changed(pre_tokenizer=None),
        with_steps({**split(GPT2), "behavior": "Removed"}),
        with_steps({"type": "Split", "pattern": {"String": "a"}, "behavior": "Isolated"}),
        with_steps({"type": "FixedLength", "length": 5}, split(GPT2)),
        with_steps(split(GPT2), {"type": "Metaspace", "prepend_scheme": "first"}),
        with_token("two words"),
        with_token("line\nline"),
        with_token("<字。>"),
        with_token("</think>", rstrip=True),
        with_token("</think>", lstrip=True),
    ],
)
def test_where_no_cut_is_known_the_text_stays_whole(content: dict[str, Any]) -> None:
    assert not cuts_at_pieces(content)


def test_a_large_text_that_stays_whole_is_announced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fast, "_LARGE_CHARACTERS", 1000)
    caplog.set_level(logging.WARNING)
    for kind, is_said in (("digits", False), ("sentencepiece", True)):
        caplog.clear()
        monkeypatch.setattr(fast, "_PIECE_CHARACTERS", 500)
        fast_encoder(from_description(KINDS[kind], Path("tokenizer.json")))(REAL[:1500])
        assert ("encoded at once" in caplog.text) == is_said
