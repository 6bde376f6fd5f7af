"""The fast encoder: the same ids as our own `encode`, for any text."""

import logging
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.tokenizer import fast
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.fast import fast_encoder
from groundup.tokenizer.pretokens import PATTERNS
from groundup.tokenizer.train_bpe import train_bpe
from groundup.tokenizer.words import WordTokenizer

SAMPLE = "it's 12 o'clock, isn't IT?  \n\n naïve 日本語 ДОМ дом \t x_y ... 2024! " * 4
WITH_WHITE_ENDS = [SAMPLE, *["a\n\nb\n "] * 9]
TOKENIZERS = {name: train_bpe(WITH_WHITE_ENDS, 340, pattern=name) for name in PATTERNS}
ENCODERS = {name: fast_encoder(tokenizer) for name, tokenizer in TOKENIZERS.items()}


def check(name: str, text: str) -> None:
    assert ENCODERS[name](text).tolist() == TOKENIZERS[name].encode(text)


@pytest.mark.parametrize("name", PATTERNS)
@given(
    text=st.text(st.characters(), max_size=60) | st.text(" \n\r\t'sS1a.é\u3000\x1c", max_size=40)
)
def test_any_unicode_surrogates_too(name: str, text: str) -> None:
    check(name, text)


@pytest.mark.parametrize("name", PATTERNS)
def test_white_space_at_the_end_is_cut_alike(name: str) -> None:
    assert b"\n " in TOKENIZERS[name].token_table
    for end in map("".join, product("\n\r \t", repeat=3)):
        check(name, "x" + end)


def around(points: range) -> str:
    """Put each character between letters, digits, spaces and copies of itself."""
    found = (chr(point) for point in points if not 0xD800 <= point < 0xE000)
    return "".join(f"a{c}b 1{c}2 {c}{c}.{c}\n" for c in found)


@pytest.mark.parametrize("name", PATTERNS)
def test_characters_of_the_common_scripts_are_cut_alike(name: str) -> None:
    check(name, around(range(0x3400)))


@pytest.mark.slow
@pytest.mark.parametrize("name", PATTERNS)
def test_every_character_is_cut_alike(name: str) -> None:
    """The libraries have their own Unicode tables, whose versions may differ."""
    # Between them are code points that no version of Unicode assigns or gives a category.
    assigned = range(0x3400, 0x33480), range(0xE0000, 0xE0200), range(0x10FF00, 0x110000)
    differ = [
        f"U+{start:04X}"
        for start in (start for part in assigned for start in part[::64])
        if ENCODERS[name](text := around(range(start, start + 64))).tolist()
        != TOKENIZERS[name].encode(text)
    ]
    assert differ == []


def test_ids_out_of_order_are_mapped() -> None:
    """A vocabulary whose ids are not in the order of its merges, as Hugging Face allows."""
    plain = TOKENIZERS["gpt4"]
    n = 256 + len(plain.merges)
    moved = {
        index: (7 * index + 3) % n if np.gcd(7, n) == 1 else n - 1 - index for index in range(n)
    }
    table = [b""] * n
    for index, place in moved.items():
        table[place] = plain.token_table[index]
    shuffled = BPETokenizer(
        [(moved[a], moved[b]) for a, b in plain.merges],
        special_tokens={"<|endoftext|>": n},
        token_table=table,
    )
    assert fast_encoder(shuffled)(SAMPLE).tolist() == shuffled.encode(SAMPLE)
    assert shuffled.encode(SAMPLE) == [moved[index] for index in plain.encode(SAMPLE)]


def test_a_new_engine_now_and_then_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "_RENEWED_AFTER_CHARACTERS", 2 * len(SAMPLE))
    encode = fast_encoder(TOKENIZERS["gpt4"])
    expected = TOKENIZERS["gpt4"].encode(SAMPLE)
    assert all(encode(SAMPLE).tolist() == expected for _ in range(7))


def test_special_tokens_in_a_text_are_text() -> None:
    for name, tokenizer in TOKENIZERS.items():
        ids = ENCODERS[name]("a<|endoftext|>b")
        assert tokenizer.special_tokens["<|endoftext|>"] not in ids


def test_a_vocabulary_the_engine_cannot_run_is_run_by_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = BPETokenizer([(104, 101)])
    broken._rank, broken._made = {}, []  # merges nothing, though its table holds "he"
    with caplog.at_level(logging.WARNING):
        encode = fast_encoder(broken)
    assert "(the ids differ): using our own encoder" in caplog.text
    assert encode("the").tolist() == [116, 104, 101]


def test_a_pattern_the_engine_does_not_know_is_cut_by_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    own_pattern = BPETokenizer(TOKENIZERS["gpt4"].merges, pattern=r"\w+|\W")
    with caplog.at_level(logging.WARNING):
        encode = fast_encoder(own_pattern)
    assert "using our own encoder" in caplog.text
    assert encode(SAMPLE).tolist() == own_pattern.encode(SAMPLE)


def test_characters_and_words() -> None:
    characters = CharacterTokenizer.from_text(SAMPLE)
    assert fast_encoder(characters)(SAMPLE).tolist() == characters.encode(SAMPLE)
    with pytest.raises(UserError, match="'Q' was not in the training text"):
        fast_encoder(characters)("Q")
    words = WordTokenizer.from_text(SAMPLE)
    assert fast_encoder(words)(SAMPLE).tolist() == words.encode(SAMPLE)
