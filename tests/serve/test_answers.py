"""The texts of answers: the space that the tokenizer adds before the first word."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from groundup.generation.engine import Event
from groundup.generation.sampler import Token
from groundup.serve.answers import AnswerWriter
from groundup.serve.page_tokens import TokenNames

SERVED: Any = SimpleNamespace(
    answers_begin_with_space=True,
    token_bytes=lambda index: [b" ", b"", b"the"][index],
    tokenizer=SimpleNamespace(special_tokens={}),
    model=SimpleNamespace(stop_ids=()),
    name="tiny",
    fingerprint="",
)


@pytest.mark.parametrize(
    ("pieces", "text"),
    [((" ", " ", "the"), " the"), (("", " ", "the"), "the"), (("the", " ", " "), "the  ")],
)
def test_one_space_is_left_out_at_the_beginning_of_an_answer(
    pieces: tuple[str, ...], text: str
) -> None:
    writer = AnswerWriter(SERVED, is_chat=True, n_choices=1, n_logprobs=None, has_usage=False)
    shown = TokenNames(SERVED).text_of(is_reply=True)
    for piece in pieces:
        token = Token([" ", "", "the"].index(piece))
        writer.add(0, Event(cast(Any, None), 0, (token,), piece, None))
        shown.push(token.id)
    assert writer.choices[0].text == text
    assert shown.text == text
