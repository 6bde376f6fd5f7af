"""The conversation: what the model is given, what comes back, what is remembered."""

from collections.abc import Generator, Iterator

import pytest
from small_chat import TOKENIZER, Parrot, session

from groundup.base.errors import UserError
from groundup.chat.session import ChatSession
from groundup.tokenizer.template import Message, render_prompt


def test_the_prompt_is_the_template_of_all_that_was_said() -> None:
    parrot = Parrot("hello", "well é")
    chat = session(parrot)
    assert "".join(chat.ask("hi ")) == "hello"
    assert list(chat.ask("how?")) == list("well é")
    said = [Message("user", "hi"), Message("assistant", "hello"), Message("user", "how?")]
    assert parrot.prompts == [
        render_prompt(said[:1], TOKENIZER),
        render_prompt(said, TOKENIZER),
    ]
    assert chat.messages == [*said, Message("assistant", "well é")]
    chat.reset()
    assert chat.messages == []


def test_the_oldest_exchange_is_forgotten_first() -> None:
    parrot = Parrot("first answer", "second answer", "third answer")
    chat = session(parrot, context_length=70)
    for question in ("first question", "second question", "third question"):
        list(chat.ask(question))
    assert chat.n_forgotten == 1
    assert parrot.prompts[-1] == render_prompt(chat.messages[2:-1], TOKENIZER)
    assert chat.exchanges[0].question == "first question"  # kept to be saved
    assert all(len(prompt) + 20 <= 70 for prompt in parrot.prompts)
    assert chat.undo() == "third question"
    assert chat.n_forgotten == 0


def test_a_question_too_long_is_refused_and_not_remembered() -> None:
    chat = session(Parrot("x"), context_length=40)
    with pytest.raises(UserError, match="question takes 53 tokens"):
        list(chat.ask("a" * 50))
    assert chat.messages == []
    with pytest.raises(UserError, match="empty"):
        list(chat.ask("  "))
    with pytest.raises(UserError, match="context of 40"):
        session(Parrot(), context_length=40, max_new_tokens=40)


def test_a_reader_who_stops_half_way() -> None:
    chat = session(Parrot("a long answer"))
    answer = chat.ask("go on")
    assert next(answer) == "a"
    assert next(answer) == " "
    assert isinstance(answer, Generator)
    answer.close()
    assert chat.messages[-1] == Message("assistant", "a ")


def test_bytes_of_one_character_come_out_together() -> None:
    class Bytes:
        vocab_size = 260
        special_tokens = TOKENIZER.special_tokens
        fingerprint = "bytes"
        encode = TOKENIZER.encode

        def token_bytes(self, token: int) -> bytes:
            return bytes([token])

        def decode(self, ids: list[int]) -> str:
            return bytes(ids).decode(errors="replace")

        def save(self, folder: object) -> None:
            raise AssertionError("no test may call this")

    def speak(ids: list[int], max_new_tokens: int) -> Iterator[int]:
        yield from [byte for byte in "aé€".encode() if byte not in stops] + [0xE2]

    stops = set(TOKENIZER.special_tokens.values())
    chat = ChatSession(speak, Bytes(), context_length=50, max_new_tokens=9)  # type: ignore[arg-type]
    assert list(chat.ask("go")) == ["a", "é", "€", "\ufffd"]
