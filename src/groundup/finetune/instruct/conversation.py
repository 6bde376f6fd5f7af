"""Stand-in until the readers of records are there."""

from dataclasses import dataclass

from groundup.tokenizer.template import Message


@dataclass(frozen=True)
class Conversation:
    """Messages that end with an answer."""

    messages: tuple[Message, ...]
    where: str = ""
    kind: str = ""
