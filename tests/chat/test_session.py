"""The conversation: what the model is given, what comes back, what is remembered."""

from collections.abc import Generator, Iterator

import pytest

from groundup.base.errors import UserError
from groundup.chat.session import ChatSession
from groundup.chat.terminal import converse
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.special import END
from groundup.tokenizer.template import Message, render_prompt

TOKENIZER = CharacterTokenizer.from_text("abcdefghijklmnopqrstuvwxyz ?é")


class Parrot:
    """A model that says its lines, one after another, and keeps what it was given."""

    def __init__(self, *lines: str) -> None:
        self.lines = list(lines)
        self.prompts: list[list[int]] = []

    def __call__(self, ids: list[int], max_new_tokens: int) -> Iterator[int]:
        self.prompts.append(ids)
        yield from TOKENIZER.encode(self.lines.pop(0))[:max_new_tokens]
        yield TOKENIZER.special_tokens[END]
        raise AssertionError("nothing is drawn after the end")


def session(parrot: Parrot, context_length: int = 100, max_new_tokens: int = 20) -> ChatSession:
    return ChatSession(
        parrot, TOKENIZER, context_length=context_length, max_new_tokens=max_new_tokens
    )


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
    assert chat.n_forgotten > 0
    assert chat.messages[-2:] == [
        Message("user", "third question"),
        Message("assistant", "third answer"),
    ]
    assert chat.messages[0].role == "user"
    assert all(len(prompt) + 20 <= 70 for prompt in parrot.prompts)


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


def talk(lines: list[str | type[BaseException]], *answers: str) -> tuple[str, int]:
    left = list(lines)
    written: list[str] = []

    def read() -> str | None:
        line = left.pop(0) if left else None
        if isinstance(line, type):
            raise line
        return line

    chat = session(Parrot(*answers), context_length=60)
    n_answered = converse(chat, read, written.append)
    return "".join(written), n_answered


def test_converse_answers_and_obeys() -> None:
    text, n_answered = talk(
        ["hi", "", "/reset", "/dance", "a" * 60, "bye", "/quit", "never"], "hello", "see you"
    )
    assert n_answered == 2
    lines = text.splitlines()
    assert lines[0] == "hello"
    assert "cleared" in lines[1]
    assert "/dance" in lines[2]
    assert "/reset" in lines[2]
    assert "63 tokens" in lines[3]
    assert lines[4] == "see you"
    assert len(lines) == 5


@pytest.mark.parametrize("end", [KeyboardInterrupt, EOFError])
def test_ctrl_c_and_ctrl_d_end_calmly(end: type[BaseException]) -> None:
    text, n_answered = talk(["hi", end, "never"], "hello")
    assert (text, n_answered) == ("hello\n\n", 1)


def test_each_answer_names_the_speaker() -> None:
    written: list[str] = []
    lines = iter(["hi", "bye", "a" * 99, None])
    chat = session(Parrot("hello", "see you"), context_length=60)
    assert converse(chat, lambda: next(lines), written.append, speaker=lambda: "story") == 2
    first, second, error = "".join(written).splitlines()
    assert (first, second) == ("story > hello", "story > see you")
    assert "story" not in error, "an error is not said by the assistant"
