"""Stand-in until the readers of records are there."""

from dataclasses import dataclass

from groundup.finetune.instruct.config import InstructConfig
from groundup.finetune.instruct.records import read_records
from groundup.text.left_out import LeftOut
from groundup.tokenizer.template import Message


@dataclass(frozen=True)
class Conversation:
    """Messages that end with an answer."""

    messages: tuple[Message, ...]
    where: str = ""
    kind: str = ""


def read_conversations(config: InstructConfig, left_out: LeftOut) -> list[Conversation]:
    """Read."""
    assert config.records is not None
    records = read_records(config.records, config, left_out=left_out)
    return [
        Conversation(
            (Message("user", r.prompt), Message("assistant", r.output)),
            f"{config.records}: record {i}",
        )
        for i, r in enumerate(records, 1)
    ]
