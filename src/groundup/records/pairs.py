"""Read preference pairs: a prompt, the answer that was chosen, and the one that was rejected."""

from pathlib import Path
from typing import Any

from groundup.records.conversations import (
    prompt_messages,
    prompt_of_instruction,
    with_system,
)
from groundup.records.messages import check_prompt, is_text, parse_messages
from groundup.records.reading import InvalidRowError, part_of, read_all
from groundup.records.rows import Pair
from groundup.text.config import FileConfig
from groundup.text.left_out import LeftOut
from groundup.text.records import EmptyError, Record
from groundup.tokenizer.template import Message

_FIELDS = (
    *("prompt", "chosen", "rejected", "instruction", "input", "context", "system"),
    *("tools", "functions"),
)
_MISSING = object()


def read_pairs(
    word: str | Path,
    config: FileConfig | None = None,
    *,
    split_column: str | None = None,
    skip_invalid: bool = False,
    left_out: LeftOut | None = None,
) -> list[Pair]:
    """Read preference pairs of a file, of the files of a folder, or of any other source.

    A record has chosen and rejected, which are texts or lists of messages, and the prompt: as
    prompt (a text or a list of messages), as instruction and input, or as the messages that both
    lists begin with. Pairs of equal answers are kept.

    Args:
        word: The source (see `text/sources.py`).
        config: The format and encoding of the file. None: the defaults.
        split_column: The field that names the set of each pair. None: there is none.
        skip_invalid: Leave out pairs that are not valid, instead of refusing the file.
        left_out: Counts what is left out.

    Raises:
        UserError: The file is missing or malformed, or a record is not a pair.
    """

    def parse(record: Record) -> Pair:
        for field in ("chosen", "rejected"):
            if record.get(field, _MISSING) is _MISSING:
                raise _missing(record, field)
        prompt, chosen, rejected = _parts(record)
        for field, answer in (("chosen", chosen), ("rejected", rejected)):
            if not answer:
                raise EmptyError(field, where=record.where)
        prompt = with_system(record, prompt)
        check_prompt(prompt, where=record.where)
        return Pair(prompt, chosen, rejected, record.name, part_of(record, split_column))

    fields = (*_FIELDS, split_column) if split_column else _FIELDS
    return read_all(
        word,
        parse,
        config,
        fields=fields,
        noun="pairs",
        skip_invalid=skip_invalid,
        left_out=left_out,
    )


def _parts(record: Record) -> tuple[tuple[Message, ...], str, str]:
    """Return the prompt and both answers."""
    values = [record.get(field) for field in ("chosen", "rejected")]
    if all(is_text(value) for value in values):
        chosen, rejected = (record.text(field).strip() for field in ("chosen", "rejected"))
        return _prompt(record), chosen, rejected
    chosen_messages, rejected_messages = (
        _answer(value, field, record.where)
        for value, field in zip(values, ("chosen", "rejected"), strict=True)
    )
    if len(chosen_messages) == len(rejected_messages) == 1:
        prompt = _prompt(record)
    elif chosen_messages[:-1] == rejected_messages[:-1]:
        prompt = chosen_messages[:-1]
    else:
        raise InvalidRowError(
            "The conversations of chosen and rejected differ before their last message. Two "
            "answers to the same messages are expected.",
            where=record.where,
        )
    return prompt, chosen_messages[-1].content, rejected_messages[-1].content


def _answer(value: Any, field: str, where: str) -> tuple[Message, ...]:
    messages = parse_messages(value, field, where=where)
    if not messages or messages[-1].role != "assistant":
        raise InvalidRowError(
            f"The last message of {field!r} is not of the assistant. An answer is expected.",
            where=where,
        )
    return messages


def _prompt(record: Record) -> tuple[Message, ...]:
    if record.get("prompt", None) is not None:
        return prompt_messages(record, "prompt")
    if record.get("instruction", None) is not None:
        return (Message("user", prompt_of_instruction(record)),)
    raise _missing(record, "prompt")


def _missing(record: Record, field: str) -> InvalidRowError:
    found = ", ".join(map(str, record.values)) or "none"
    return InvalidRowError(
        f"This record has no field {field!r} (it has: {found}). Expected are chosen and rejected, "
        "and prompt, or instruction and input.",
        where=record.where,
    )
