"""The chat template that fine-tuning and chat share.

    <|user|> question <|end|> <|assistant|> answer <|end|>

Special tokens are inserted as ids, never as text, so that typed text cannot forge a turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from groundup.base.errors import UserError
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.special import ASSISTANT, END, USER

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


def render(messages: Sequence[Message], tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Encode a conversation as ids and a loss mask, which is 1 where the loss is computed.

    The loss is computed on the assistant's answers and on the end of its turns only.

    Raises:
        UserError: The tokenizer lacks the chat tokens, or a message is of the system.
    """
    if any(message.role == "system" for message in messages):
        raise UserError(
            "The chat template of this assistant has no system messages: it was trained on "
            "questions and answers. A conversation of user and assistant is expected."
        )
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
    """Encode a conversation as the ids after which the assistant's answer begins."""
    ids, _ = render(messages, tokenizer)
    return [*ids, _special(tokenizer, ASSISTANT)]


def _special(tokenizer: Tokenizer, name: str) -> int:
    if name not in tokenizer.special_tokens:
        raise UserError(
            f"This tokenizer has no {name}. A tokenizer with the chat tokens is expected, such as "
            "that of an assistant: `groundup instruct` adds them.",
        )
    return tokenizer.special_tokens[name]
