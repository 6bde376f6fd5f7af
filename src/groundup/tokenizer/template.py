"""The one chat template, shared by training and chat.

    <|user|> question <|end|> <|assistant|> answer <|end|>

Special tokens are written as ids, never as text: what a person types cannot forge a turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from groundup.base.errors import UserError
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.special import ASSISTANT, END, USER

Role = Literal["user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


def render(messages: Sequence[Message], tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Turn a conversation into ids and a mask: 1 where the loss counts.

    The loss counts on what the assistant says and on the end of its turn, nothing else.

    Raises:
        UserError: The tokenizer lacks the chat tokens.
    """
    opening = {"user": _special(tokenizer, USER), "assistant": _special(tokenizer, ASSISTANT)}
    end = _special(tokenizer, END)
    ids: list[int] = []
    mask: list[int] = []
    for message in messages:
        content = tokenizer.encode(message.content)
        counts = int(message.role == "assistant")
        ids += [opening[message.role], *content, end]
        mask += [0, *([counts] * len(content)), counts]
    return ids, mask


def render_prompt(messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """Turn a conversation into the ids after which the assistant's answer begins."""
    ids, _ = render(messages, tokenizer)
    return [*ids, _special(tokenizer, ASSISTANT)]


def _special(tokenizer: Tokenizer, name: str) -> int:
    if name not in tokenizer.special_tokens:
        raise UserError(
            f"this tokenizer has no {name}",
            need="a tokenizer with the chat tokens",
            type_this="groundup train-tokenizer DATA",
        )
    return tokenizer.special_tokens[name]
