"""Text in chunks: the ids of the complete text for any cut, in little memory."""

import random
import tracemalloc
from collections.abc import Iterator
from functools import cache
from inspect import unwrap
from typing import Any

import pytest
from complexity import lines_run
from hypothesis import example, given, settings
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.text.builtin import python_reference
from groundup.tokenizer import stream
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.pretokens import PATTERNS
from groundup.tokenizer.special import allowed_names
from groundup.tokenizer.train_bpe import train_bpe
from groundup.tokenizer.words import WordTokenizer

PIECES = [
    "the",
    " cat",
    "'ll",
    "'",
    "l",
    " ",
    "  ",
    "\n",
    "\r\n",
    "\n\n",
    "\t",
    "1",
    "123",
    "é",
    "日",
]
PIECES += [
    "日本",
    "!",
    "--",
    "-",
    "...",
    "<|a|>",
    "<|a|",
    "<",
    "|>",
    "<|a|><|b|>",
    "\ud83d",
    "\ude00",
]
TEXT = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
SPECIAL = ["<|a|>", "<|b|>", "<|a|><|b|>"]
OWN_PATTERNS = [
    r"\w+", r"\d*", "", r"\s+(?!\S)|\S", r"\p{L}+(?=!)|!", r"(?:the| cat)+", r"l(?!l)|'",
    r"(\w)(\d)", r"(?>-+)(?![.])", r"-+\.", r"\p{N}{1,3}|\p{L}+|\s+", r"the\s*cat|.",
    r".{1,7}",
    r"^\w+|\s", r"(?<=a)t", r"\bcat\b", r"\w+$", r"1(?=.*!)", r"(?:a|)+?t",
    r"\s*[\r\n]+|\s+(?!\S)|\s+",
]  # fmt: skip


@cache
def tokenizer_of(name: str) -> Any:
    if name == "characters":
        return CharacterTokenizer.from_text("".join(PIECES), special_tokens=SPECIAL)
    if name == "words":
        return WordTokenizer.from_text(" ".join(PIECES), special_tokens=[*SPECIAL, "<|unk|>"])
    pattern = PATTERNS.get(name, name)
    sample = "the cat the cat's 123 123 --- ... \n\n \r\n 日本 é é!"
    return train_bpe([sample] * 2, 256 + len(SPECIAL) + 40, pattern=pattern, special_tokens=SPECIAL)


def check(name: str, text: str, allowed: Any, draw: random.Random, block: int) -> None:
    tokenizer = tokenizer_of(name)
    chunks, rest = [], text
    while rest:
        n = draw.randrange(0, 6)
        chunks.append(rest[:n])
        rest = rest[n:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "_BLOCK_CHARACTERS", block)
        found = list(tokenizer.encode_iterable(iter(chunks), allowed))
    assert found == tokenizer.encode(text, allowed)


@pytest.mark.parametrize("name", ["gpt2", "gpt4", "characters", "words", *OWN_PATTERNS])
@given(
    text=TEXT,
    allowed=st.sampled_from(["all", frozenset(), frozenset(["<|a|>"]), frozenset(SPECIAL)]),
    seed=st.integers(0, 2**32),
    block=st.sampled_from([1, 1, 2, 3, 8]),
)
@example(text="a\n\n  b  \n \r\n", allowed="all", seed=0, block=1)
@example(text="the<|a|><|b|>cat<|a|", allowed="all", seed=0, block=1)
@settings(max_examples=60, deadline=None)
def test_any_cut_gives_the_ids_of_the_complete_text(
    name: str, text: str, allowed: Any, seed: int, block: int
) -> None:
    check(name, text, allowed, random.Random(seed), block)


def test_real_text(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n\n".join(document.text for document in python_reference())[:20_000]
    for pattern in ("gpt2", "gpt4", r"\w+|\s+"):
        tokenizer = train_bpe([text], 500, pattern=pattern)
        for size in (1, 5000, 10**6):
            chunks = (text[i : i + size] for i in range(0, len(text), size))
            assert list(tokenizer.encode_iterable(chunks)) == tokenizer.encode(text)


def test_ids_come_before_the_text_ends() -> None:
    tokenizer = tokenizer_of("gpt4")

    def endless() -> Iterator[str]:
        while True:
            yield "the cat sat, "

    ids = tokenizer.encode_iterable(endless())
    assert tokenizer.decode(next(ids) for _ in range(30_000)).startswith("the cat sat, the cat")


def check_memory(tokenizer: BPETokenizer, text: str, n_characters: int, allowed: Any) -> None:
    def chunks() -> Iterator[str]:
        for start in range(n_characters // 4096):
            yield text[start * 4096 % (len(text) - 4096) :][:4096]

    tracemalloc.start()
    try:
        n_ids = sum(1 for _ in tokenizer.encode_iterable(chunks(), allowed))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert n_ids > n_characters // 9
    assert peak < 2**20


def real_text() -> str:
    return "\n\n".join(document.text for document in python_reference())


@pytest.mark.parametrize("pattern", ["gpt4", r"\w+|\s+|[^\w\s]"])
def test_a_megabyte_is_more_than_enough(pattern: str) -> None:
    text = real_text()
    tokenizer = train_bpe([text[:50_000]], 400, pattern=pattern)
    check_memory(tokenizer, text, 60_000, "all")
    check_memory(tokenizer, "日本語の文章はすべて。" * 2000, 30_000, frozenset())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_text() -> None:
    text = real_text()
    check_memory(train_bpe([text], 1000), text, 1_000_000, "all")


def test_unbroken_text_is_encoded_in_linear_time() -> None:
    tokenizer = tokenizer_of("gpt4")

    def lines(n: int) -> int:
        return lines_run(lambda: sum(1 for _ in tokenizer.encode_iterable("a" for _ in range(n))))

    small, large = lines(30_000), lines(120_000)
    assert large < 5 * small


def test_a_special_token_that_is_none_is_an_error() -> None:
    with pytest.raises(UserError, match="no special token <x>"):
        list(tokenizer_of("gpt4").encode_iterable(["a"], {"<x>"}))
    with pytest.raises(UserError, match=r"allowed_special is the string '<\|a\|>'"):
        unwrap(allowed_names)({"<|a|>": 1}, "<|a|>")
