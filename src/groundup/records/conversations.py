"""Read conversations: Alpaca, messages (OpenAI, Hugging Face), ShareGPT, prompt and completion."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import orjson

from groundup.records.messages import check_conversation, is_text, parse_messages
from groundup.records.reading import InvalidRowError, part_of, read_all
from groundup.records.rows import Conversation
from groundup.text.config import FileConfig
from groundup.text.left_out import LeftOut
from groundup.text.records import EmptyError, NullError, Record
from groundup.tokenizer.template import Message

Layout = Literal["auto", "alpaca", "messages", "sharegpt", "prompt-completion"]
"""alpaca: instruction, input, output; messages: a list of role and content; sharegpt:
conversations, a list of from and value; prompt-completion: two texts, or two lists of messages;
auto: recognized from the fields."""

_FIELDS = (
    *("instruction", "input", "context", "output", "response", "system", "history"),
    *("messages", "conversations", "conversation", "prompt", "completion", "tools", "functions"),
)
_LAYOUTS = {
    "messages": ("messages",),
    "sharegpt": ("conversations", "conversation"),
    "prompt-completion": ("completion",),
    "alpaca": ("instruction", "output"),
}
"""The fields that tell the layouts apart; the first one that is there decides."""


def read_conversations(
    word: str | Path,
    config: FileConfig | None = None,
    *,
    layout: Layout = "auto",
    split_column: str | None = None,
    skip_invalid: bool = False,
    left_out: LeftOut | None = None,
) -> list[Conversation]:
    """Read conversations of a file, of the files of a folder, or of any other source.

    Args:
        word: The source (see `text/sources.py`).
        config: The format and encoding of the file. None: the defaults.
        layout: The fields of the records.
        split_column: The field that names the set of each conversation. None: there is none.
        skip_invalid: Leave out conversations that are not valid, instead of refusing the file.
        left_out: Counts what is left out.

    Raises:
        UserError: The file is missing or malformed, or a record is not a conversation.
    """

    def parse(record: Record) -> Conversation:
        chosen = layout_of(record) if layout == "auto" else layout
        messages = _PARSERS[chosen](record)
        check_conversation(messages, where=record.where)
        return Conversation(messages, record.name, part=part_of(record, split_column))

    fields = (*_FIELDS, split_column) if split_column else _FIELDS
    return read_all(
        word,
        parse,
        config,
        fields=fields,
        noun="conversations",
        skip_invalid=skip_invalid,
        left_out=left_out,
    )


def layout_of(record: Record) -> str:
    """Recognize the layout of a record from its fields; an empty one counts if no other is there.

    Raises:
        InvalidRowError: They belong to none.
    """
    given = {name for name in (*_FIELDS, "chosen") if record.get(name, None) is not None}
    for names in ({name for name in given if record.get(name) != ""}, given):
        for layout, any_of in _LAYOUTS.items():
            if not names.isdisjoint(any_of):
                return layout
    found = ", ".join(map(str, record.values)) or "none"
    hint = " Preference pairs are read by `groundup prefer`." if "chosen" in given else ""
    raise InvalidRowError(
        f"The fields of this record are: {found}. Expected are instruction, input and output "
        "(Alpaca), messages, conversations (ShareGPT), or prompt and completion." + hint,
        where=record.where,
    )


def prompt_of_instruction(record: Record) -> str:
    """Return the user's message of an Alpaca record: the instruction and, if any, the input."""
    instruction = _required(record, "instruction")
    added = _optional(record, "input") or _optional(record, "context")
    return f"{instruction}\n{added}" if added else instruction


def with_system(record: Record, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Put the system message of a record, if it has a field for it, before its messages.

    Raises:
        InvalidRowError: The record has tools.
    """
    for field in ("tools", "functions"):
        if record.get(field, None):
            raise InvalidRowError(
                f"The record has a field {field!r}. Tool calls are not supported.",
                where=record.where,
            )
    system = _optional(record, "system")
    return (Message("system", system), *messages) if system else messages


def _alpaca(record: Record) -> tuple[Message, ...]:
    answer = "output" if record.get("response", None) is None else "response"
    messages = []
    history = record.get("history", None) or []
    if isinstance(history, str):  # in a cell of a table
        with suppress(orjson.JSONDecodeError):
            history = orjson.loads(history)
    if not isinstance(history, list) or any(not _is_pair(turn) for turn in history):
        raise InvalidRowError(
            "The field 'history' is not a list of pairs of question and answer, which is expected.",
            where=record.where,
        )
    for question, reply in history:
        messages += [Message("user", question.strip()), Message("assistant", reply.strip())]
    messages.append(Message("user", prompt_of_instruction(record)))
    messages.append(Message("assistant", _required(record, answer)))
    return with_system(record, tuple(messages))


def _is_pair(turn: Any) -> bool:
    return isinstance(turn, list) and [type(text) for text in turn] == [str, str]


def _messages(record: Record) -> tuple[Message, ...]:
    value = record.get("messages")
    return with_system(record, parse_messages(value, "messages", where=record.where))


def _sharegpt(record: Record) -> tuple[Message, ...]:
    field = "conversation" if record.get("conversations", None) is None else "conversations"
    return with_system(record, parse_messages(record.get(field), field, where=record.where))


def _prompt_completion(record: Record) -> tuple[Message, ...]:
    prompt = prompt_messages(record, "prompt")
    completion = record.get("completion")
    if is_text(completion):
        return with_system(record, (*prompt, Message("assistant", _required(record, "completion"))))
    return with_system(
        record, (*prompt, *parse_messages(completion, "completion", where=record.where))
    )


def prompt_messages(record: Record, field: str) -> tuple[Message, ...]:
    """Read a prompt, which is a text or a list of messages."""
    value: Any = record.get(field)
    if is_text(value):
        return (Message("user", _required(record, field)),)
    return parse_messages(value, field, where=record.where)


def _required(record: Record, field: str) -> str:
    text = record.text(field).strip()
    if not text:
        raise EmptyError(field, where=record.where)
    return text


def _optional(record: Record, field: str) -> str:
    try:
        return "" if record.get(field, None) is None else record.text(field).strip()
    except NullError:
        return ""


_PARSERS: dict[str, Callable[[Record], tuple[Message, ...]]] = {
    "alpaca": _alpaca,
    "messages": _messages,
    "sharegpt": _sharegpt,
    "prompt-completion": _prompt_completion,
}
