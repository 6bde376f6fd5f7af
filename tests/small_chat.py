"""Chats with a parrot or a tiny model, for tests."""

from collections.abc import Iterator

from decoder_models import lively

from groundup.chat.answer_generator import AnswerGenerator
from groundup.chat.cast_session import CastSession
from groundup.chat.config import ChatConfig
from groundup.chat.conversation import Conversation
from groundup.chat.session import ChatSession
from groundup.generation.decoder import Decoder
from groundup.model.config import GPTConfig
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.special import END

TOKENIZER = CharacterTokenizer.from_text("abcdefghijklmnopqrstuvwxyz ?é/\n")


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


def generator(context_length: int = 100, max_new_tokens: int = 20) -> AnswerGenerator:
    """A generator of a model with random weights."""
    config = GPTConfig(
        vocab_size=TOKENIZER.vocab_size, context_length=context_length, d_model=24, n_layers=2,
        n_heads=4,
    )  # fmt: skip
    return AnswerGenerator(
        Decoder(lively(config)),
        TOKENIZER.token_bytes,
        ChatConfig(),
        temperature=0.0,
        max_new_tokens=max_new_tokens,
        stop_ids=list(TOKENIZER.special_tokens.values()),
    )


def session(parrot: Parrot, context_length: int = 100, max_new_tokens: int = 20) -> ChatSession:
    return ChatSession(
        parrot, TOKENIZER, context_length=context_length, max_new_tokens=max_new_tokens
    )


def conversation(*lines: str, context_length: int = 100) -> Conversation:
    """A conversation with a parrot, whose generator is asked for nothing but its settings."""
    return around(session(Parrot(*lines), context_length), context_length)


def around(chat: ChatSession | CastSession, context_length: int = 100) -> Conversation:
    return Conversation(chat, generator(context_length), "story")


def real(context_length: int = 200) -> Conversation:
    """A conversation with a model with random weights."""
    made = generator(context_length)
    chat = ChatSession(
        made.ids, TOKENIZER, context_length=context_length, max_new_tokens=made.max_new_tokens
    )
    return Conversation(chat, made)
