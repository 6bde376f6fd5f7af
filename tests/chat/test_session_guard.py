"""What is forgotten are whole exchanges, and every end token ends an answer."""

from collections.abc import Iterator

import pytest

from groundup.chat.session import ChatSession
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.special import END, END_OF_TEXT
from groundup.tokenizer.template import Message, render_prompt

TOKENIZER = CharacterTokenizer.from_text("abcdefghijklmnopqrstuvwxyz ?")


def test_a_question_is_forgotten_together_with_its_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without the long first question alone, everything would fit."""

    prompts = []

    def speak(ids: list[int], max_new_tokens: int) -> Iterator[int]:
        prompts.append(ids)
        yield from TOKENIZER.encode("yes")
        yield TOKENIZER.special_tokens[END]

    chat = ChatSession(speak, TOKENIZER, context_length=80, max_new_tokens=10)
    list(chat.ask("a" * 60))
    list(chat.ask("b" * 20))
    assert prompts[1] == render_prompt([Message("user", "b" * 20)], TOKENIZER)
    assert chat.n_forgotten == 1
    # 20 characters more than the first question alone, and 3 of its answer, and 5 special tokens.
    assert "has 90 tokens, and 70 fit into the context of 80 beside an answer" in caplog.text
    assert "Its oldest exchange is left out, 1 since the beginning." in caplog.text


@pytest.mark.parametrize("name", [END, END_OF_TEXT])
def test_an_answer_ends_at_either_end_token(name: str) -> None:
    def speak(ids: list[int], max_new_tokens: int) -> Iterator[int]:
        yield from TOKENIZER.encode("yes")
        yield TOKENIZER.special_tokens[name]
        yield from TOKENIZER.encode("and so on")

    chat = ChatSession(speak, TOKENIZER, context_length=80, max_new_tokens=30)
    assert "".join(chat.ask("really?")) == "yes"
