"""Pairs as ids: which tokens count, what is cut, and what is left out."""

from collections.abc import Sequence

import pytest
from chat_templates import TEMPLATES

from groundup.alignment.prefer.encoding import (
    EMPTY,
    EQUAL,
    EQUAL_WHEN_CUT,
    LONG_PROMPT,
    TOO_LONG,
    answer_row,
    encode_pairs,
)
from groundup.base.errors import UserError
from groundup.records.rows import Pair
from groundup.tokenizer.chat_template import ChatTemplate
from groundup.tokenizer.conversation import render_ids
from groundup.tokenizer.extend import with_special_tokens
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.special import ASSISTANT, END, USER
from groundup.tokenizer.template import Message
from groundup.tokenizer.train_bpe import train_bpe


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    names = (USER, ASSISTANT, END, "<|im_start|>", "<|im_end|>")
    return with_special_tokens(train_bpe(["the cat sat on the mat 4 5 6 " * 9], 290), names)


def pair(chosen: str, rejected: str, prompt: str = "the cat?", where: str = "a.json:1") -> Pair:
    return Pair((Message("user", prompt),), chosen, rejected, where)


def counted(row: tuple[list[int], list[int]], tokenizer: Tokenizer) -> str:
    return tokenizer.decode([target for target in row[1] if target >= 0])


@pytest.mark.parametrize("name", ["", "chatml", "gemma", "llama2"])
def test_only_the_last_answer_and_its_end_count(name: str, tokenizer: Tokenizer) -> None:
    template = ChatTemplate(TEMPLATES[name], {"bos_token": "", "eos_token": END}) if name else None
    messages = [Message("user", "a"), Message("assistant", "the cat 4 5"), Message("user", "b")]
    ids, targets = answer_row(messages, "sat on 6\n\nthe mat", tokenizer, template)
    assert counted((ids, targets), tokenizer).strip().startswith("sat on 6\n\nthe mat")
    full = render_ids([*messages, Message("assistant", "sat on 6\n\nthe mat")], tokenizer, template)
    assert [*ids, targets[-1]] == full[0][: len(ids) + 1]
    following = [*ids[1:], targets[-1]]
    assert all(t in (-100, after) for t, after in zip(targets, following, strict=True))
    first = next(i for i, target in enumerate(targets) if target >= 0)
    assert "the cat 4 5" in tokenizer.decode(ids[: first + 1])


def test_each_answer_is_cut_by_itself(tokenizer: Tokenizer) -> None:
    long, short = "the cat sat on the mat " * 3, "no"
    for answers in ((long, short), (short, long)):
        encoded, left_out = encode_pairs(
            [pair(*answers)] * 3, tokenizer, None, context_length=99, max_answer_tokens=4
        )
        n_tokens = [sum(t >= 0 for t in targets) for _, targets in encoded[0].rows]
        assert sorted(n_tokens) == [len(tokenizer.encode(short)) + 1, 4]
        texts = [counted(row, tokenizer) for row in encoded[0].rows]
        assert texts[answers.index(short)] == f"no{END}"  # its end is there
        assert END not in texts[answers.index(long)]
        assert not left_out.counts


def encode(pairs: Sequence[Pair], tokenizer: Tokenizer, context_length: int, cut: int | None):
    return encode_pairs(
        pairs, tokenizer, None, context_length=context_length, max_answer_tokens=cut
    )


def test_what_is_left_out_is_counted_by_reason(tokenizer: Tokenizer) -> None:
    long = "the cat sat on the mat " * 9
    good = [pair("yes", "no")] * 3
    bad = {
        EQUAL: [pair("yes", " yes", where="a.json:4")],
        EMPTY: [pair(" ", "no", where="a.json:5"), pair("yes", "", where="a.json:6")],
        LONG_PROMPT: [pair("yes", "no", prompt=long, where="a.json:7")],
        TOO_LONG: [pair("yes", long, where="a.json:8"), pair(long, "yes", where="a.json:9")],
    }
    every = [*good, *(p for some in bad.values() for p in some)]
    encoded, left_out = encode(every, tokenizer, 24, None)
    assert [e.number for e in encoded] == [0, 1, 2]
    assert left_out.counts == {reason: len(some) for reason, some in bad.items()}
    assert left_out.first == {reason: some[0].where for reason, some in bad.items()}
    assert left_out.sentences()[0] == (
        "1 of 9 pairs is left out because both answers are equal (first: a.json:4)."
    )
    encoded, left_out = encode([*good, pair("the cat sat", "the cat mat")], tokenizer, 24, 2)
    assert left_out.counts == {EQUAL_WHEN_CUT: 1}
    assert len(encode([pair("yes", long)] * 3, tokenizer, 24, 4)[0]) == 3


def test_the_longest_pair_that_fits_stays(tokenizer: Tokenizer) -> None:
    n = len(answer_row(pair("yes", "no").messages, "yes", tokenizer)[0])
    pairs = [pair("yes", "no")] * 3
    assert len(encode(pairs, tokenizer, n, None)[0]) == 3
    with pytest.raises(UserError, match="prompt and answer are longer than the context"):
        encode(pairs, tokenizer, n - 1, None)
    with pytest.raises(UserError, match="the prompt is longer than the context"):
        encode(pairs, tokenizer, 3, None)


def test_one_pair_is_too_few(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=r"1 of 1 pairs can be trained on\. At least three"):
        encode([pair("yes", "no")], tokenizer, 24, None)
    with pytest.raises(UserError, match=r"0 of 3 pairs .* both answers are equal"):
        encode([pair("yes", "yes")] * 3, tokenizer, 24, None)
