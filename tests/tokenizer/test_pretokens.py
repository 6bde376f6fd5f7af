"""Pretokens: no character is lost, by any pattern, and the cuts are those of tokenizers."""

import re
from functools import partial
from inspect import unwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.tokenizer import round_trip
from groundup.tokenizer.pretokens import PATTERNS, compile_pattern, splitter
from groundup.tokenizer.round_trip import CANARY, check_round_trip
from groundup.tokenizer.train_bpe import train_bpe

# Groups, empty matches, lookarounds, an empty pattern, matches that do not cover the text.
OWN_PATTERNS = [
    r"\d+", r"\d*", "", "|aa", "a|", r"(\w)(\d)", r"(a)|(b)", r"(?=b)", r"(?<=a)b", r"(?!a)",
    r"a\Kb", r"x*", r"\s+(?!\S)|\d", r"(?:ab)+?", r"\p{Lu}\p{Ll}*", r"[一-龥]+", r"\p{N}{1,3}",
]  # fmt: skip
TEXT = st.text(st.sampled_from("aabbxX1 2\n\r\t é一日👩_"), max_size=20)


@pytest.mark.parametrize("pattern", [*OWN_PATTERNS, *PATTERNS.values()])
def test_the_cuts_are_those_of_split_isolated(pattern: str) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    theirs = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    ours = splitter(pattern)

    @given(TEXT)
    @settings(max_examples=60, deadline=None)
    def on_any_text(text: str) -> None:
        assert ours(text) == [piece for piece, _ in theirs.pre_tokenize_str(text)]

    on_any_text()


@pytest.mark.parametrize(
    "pattern", [*OWN_PATTERNS, r"\w+", r"\bcat\b", "^.", ".$", r"(?i)A", "zzz"]
)
def test_no_character_is_lost_by_any_pattern(pattern: str) -> None:
    tokenizer = train_bpe(["The cat sat.", "The cat sat in 2024."], 300, pattern=pattern)
    for text in ("The cat sat in 2024.", CANARY, "", " ", "\n", "aab"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_several_steps_cut_the_text_but_keep_it() -> None:
    """What a tokenizer.json of DeepSeek says first: numbers of up to three digits."""
    assert splitter(r"\p{N}{1,3}")("in 2024.") == ["in ", "202", "4", "."]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("[", "is not a regular expression: unterminated character set"),
        ("(", "is not a regular expression"),
        ("*", "is not a regular expression"),
        (r"\p{Nope}", "is not a regular expression"),
        ("a{99999999999}", "is not a regular expression"),
        ("(" * 5000 + ")" * 5000, "is not a regular expression"),
        ("\ud800", "is not a regular expression"),
        (r"(?r)\w+", "searches backwards"),
    ],
)
def test_a_pattern_that_is_none_is_one_sentence(pattern: str, message: str) -> None:
    for use in (splitter, lambda p: train_bpe(["a"], 300, pattern=p)):
        with pytest.raises(UserError, match=rf"{message}.*Try: pattern='gpt4'"):
            use(pattern)


@pytest.mark.parametrize("pattern", [None, 3, b"a", ["a"], re.compile("a")])
def test_a_pattern_of_another_type_is_a_type_error(pattern: object) -> None:
    for use in (compile_pattern, partial(unwrap(train_bpe), ["a"], 300)):
        with pytest.raises(TypeError, match=r"The pattern is a \w+\. A string is expected\."):
            unwrap(use)(pattern=pattern)


def test_a_pattern_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(round_trip, "_TIMEOUT_S", 0.05)
    with pytest.raises(UserError, match=r"takes more than 0\.05 s"):
        train_bpe(["a"], 300, pattern=r"(?:(?:a|a|a)+)+(?<!a)")


def test_a_tokenizer_that_loses_text_is_refused() -> None:
    tokenizer = train_bpe(["the cat"], 300)
    check_round_trip(tokenizer)
    tokenizer.token_table[ord("c")] = b""
    with pytest.raises(UserError, match="x: This tokenizer loses text: \"cat's"):
        check_round_trip(tokenizer, "x")
