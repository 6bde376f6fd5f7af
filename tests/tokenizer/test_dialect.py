"""Patterns mean the same in the `regex` package and in tokenizers, or are refused."""

import string
import sys
import unicodedata

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.tokenizer.dialect import (
    PROPERTIES,
    OtherMeaningError,
    from_oniguruma,
    to_oniguruma,
)
from groundup.tokenizer.pretokens import PATTERNS, splitter

ASSIGNED = "".join(
    chr(point)
    for point in range(sys.maxunicode + 1)
    if unicodedata.category(chr(point)) not in ("Cn", "Cs", "Co")
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.mark.parametrize("pattern", [*PATTERNS.values(), O200K])
def test_published_patterns_stay_as_they_are(pattern: str) -> None:
    assert to_oniguruma(pattern) == from_oniguruma(pattern) == pattern


CHANGED = set("\u0295\u0c04\u0f82\u0f83\U00011080\U00011081")
"""Characters whose properties differ between the Unicode versions of the libraries."""


@pytest.mark.parametrize(
    "pattern",
    [
        r"\w",
        r"\W",
        r"[\w]",
        r"[^\w-]",
        r"[\\\w]",
        r"\s",
        r"\d",
        ".",
        f"(?i:{'|'.join(set(string.ascii_letters) - set('iI'))})",
        "(?i:k|s)",
    ]
    + [rf"\p{{{name}}}" for name in PROPERTIES],
)
def test_classes_have_the_same_characters(pattern: str) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    for ours, theirs in ((pattern, to_oniguruma(pattern)), (from_oniguruma(pattern), pattern)):
        kept = tokenizers.normalizers.Replace(tokenizers.Regex(theirs), "").normalize_str(ASSIGNED)
        differ = set(kept) ^ set(regex.sub(ours, "", ASSIGNED))
        assert differ <= CHANGED


PARTS = [
    r"\w", r"\W", r"\d", r"\s", "a", "b", " ", r"\.", "[ab]", "[^a1]", r"[\w ]", r"\p{L}", ".",
    "(?:ab)", "(a|b)", "(?=a)", "(?!b)", "(?<=a)", "(?<!b)", "(?>a|ab)", "^", "$", r"\A", r"\Z",
    r"\z", r"\s++$", "|", "|", r"\b", r"\h", "(?i:ab)", "(?i:ss)", "[a&&b]", "[[a]b]", r"\x41",
]  # fmt: skip
QUANTIFIERS = ["", "", "", "*", "+", "?", "*?", "+?", "++", "*+", "?+", "{1,2}", "{2}", "{,2}"]
QUANTIFIERS += ["{1,2}+", "{1,2}?", "{2}?", "{2}+", "{1,}+"]
PATTERN = st.lists(
    st.tuples(st.sampled_from(PARTS), st.sampled_from(QUANTIFIERS)).map("".join), max_size=4
).map("".join)
TEXT = st.text(st.sampled_from("aabb1 \n²\u200dABß_é."), max_size=12)


@pytest.mark.parametrize("translate", [to_oniguruma, from_oniguruma])
@given(pattern=PATTERN, texts=st.lists(TEXT, min_size=4, max_size=4))
@settings(max_examples=100, deadline=None)
def test_both_engines_cut_alike_or_the_pattern_is_refused(translate, pattern, texts) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    try:
        translated = translate(pattern)
        ours, theirs = (pattern, translated) if translate is to_oniguruma else (translated, pattern)
        cut = splitter(ours)
        split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(theirs), "isolated")
    except Exception as error:
        if isinstance(error, ValueError) or "Oniguruma" in str(error):
            return
        raise
    for text in texts:
        assert cut(text) == [piece for piece, _ in split.pre_tokenize_str(text)], text


@pytest.mark.parametrize(
    "pattern",
    ["^a", "a$", r"\bcat", r"\h", "(?i)a", "(?i:ss)", "(?i:i)", "[a[b]]", "[a&&b]", "(?m:a)"],
)
def test_what_has_another_meaning_is_named(pattern: str) -> None:
    with pytest.raises(OtherMeaningError):
        from_oniguruma(pattern)


@pytest.mark.parametrize("pattern", [r"\bcat", "(?i)a", "(?r)a", "(?:cat){e<=1}", "(?V1)[a--b]"])
def test_what_cannot_be_written_for_tokenizers_is_named(pattern: str) -> None:
    with pytest.raises(OtherMeaningError):
        to_oniguruma(pattern)
