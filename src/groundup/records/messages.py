"""Lists of messages, as OpenAI, Hugging Face and ShareGPT write them; each is checked."""

import re
from collections.abc import Sequence
from typing import Any

import orjson

from groundup.records.reading import InvalidRowError
from groundup.text.records import EmptyError, NullError, described
from groundup.tokenizer.template import Message, Role

_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
}
_TOOLS = ("tool", "function", "function_call", "observation", "ipython")
_REFUSED = ("tool_calls", "function_call", "reasoning_content", "thinking")
"""Fields of a message that would change what the model learns."""
_PARTS = ({"role", "content"}, {"from", "value"})
_LOOKS_LIKE_MESSAGES = re.compile(r"""\s*\[\s*\{\s*['"](role|content|from|value)['"]\s*:""")


def is_text(value: Any) -> bool:
    """Tell a text from a list of messages, which may be written as JSON in a cell of a table.

    Other JSON is a text. What begins like a list of messages and is no valid JSON, such as a list
    that Python printed, counts as one, so that `parse_messages` refuses it.
    """
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return not isinstance(value, list)
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return _LOOKS_LIKE_MESSAGES.match(value) is None
    items = found if isinstance(found, list) else []
    return not any(
        isinstance(item, dict) and part <= item.keys() for item in items for part in _PARTS
    )


def parse_messages(value: Any, field: str, *, where: str) -> tuple[Message, ...]:
    """Read a list of messages, each with role and content, or with from and value.

    Args:
        value: The list, or its JSON text, as in a cell of a table.
        field: Its name, for messages.
        where: The record, for messages.

    Raises:
        InvalidRowError: It is no such list, or a message has another role or no text.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise InvalidRowError(
                f"The field {field!r} is not valid JSON ({error.msg}). A list of messages is "
                "expected.",
                where=where,
            ) from error
    if value is None:
        raise NullError(field, where=where)
    if not isinstance(value, list):
        raise InvalidRowError(
            f"The field {field!r} is {described(value)}. A list of messages is expected.",
            where=where,
        )
    messages = [_message(item, f"Message {n}", where) for n, item in enumerate(value, 1)]
    # An empty system message says nothing; many data sets have one in every record.
    return tuple(m for m in messages if m.content or m.role != "system")


def _message(value: Any, name: str, where: str) -> Message:
    if not isinstance(value, dict):
        raise InvalidRowError(
            f"{name} is {described(value)}. An object with role and content is expected.",
            where=where,
        )
    role_key, text_key = ("from", "value") if "from" in value else ("role", "content")
    for key in (role_key, text_key):
        if key not in value:
            raise InvalidRowError(
                f"{name} has no field {key!r} (it has: {', '.join(map(str, value)) or 'none'}). "
                "The fields role and content, or from and value, are expected.",
                where=where,
            )
    role = str(value[role_key]).strip().lower()
    refused = next((key for key in _REFUSED if value.get(key)), None)
    if role in _TOOLS or refused is not None:
        what = f"the role {role!r}" if role in _TOOLS else f"a field {refused!r}"
        raise InvalidRowError(
            f"{name} has {what}, which is not supported. Messages of system, user and assistant "
            "with nothing but text are expected.",
            where=where,
        )
    if value.get("weight") == 0:
        raise InvalidRowError(
            f"{name} has the weight 0, which is not supported: every answer is trained on.",
            where=where,
        )
    if role not in _ROLES:
        raise InvalidRowError(
            f"{name} has the role {role!r}. One of system, user and assistant is expected (human "
            "and gpt in ShareGPT data).",
            where=where,
        )
    return Message(_ROLES[role], _text(value[text_key], name, where))


def _text(content: Any, name: str, where: str) -> str:
    if isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
        for part in content
    ):
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise InvalidRowError(
            f"The content of {name.lower()} is {described(content)}. A string is expected; "
            "pictures and tool calls are not supported.",
            where=where,
        )
    try:
        content.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRowError(
            f"{name} contains half of a surrogate pair, which is not a character.", where=where
        ) from error
    return content.strip()


def check_conversation(messages: Sequence[Message], *, where: str) -> None:
    """Refuse a conversation that is not [system] user assistant [user assistant ...].

    Raises:
        InvalidRowError: The order is another one.
        EmptyError: A message is empty.
    """
    _check_turns(messages, where)
    if messages[-1].role != "assistant":
        raise InvalidRowError(
            f"The last message is of the {messages[-1].role}. A conversation that ends with an "
            "answer of the assistant is expected.",
            where=where,
        )


def check_prompt(messages: Sequence[Message], *, where: str) -> None:
    """Refuse a prompt that is not a conversation up to a message of the user.

    Raises:
        InvalidRowError: The order is another one.
        EmptyError: A message is empty.
    """
    _check_turns(messages, where)
    if messages[-1].role != "user":
        raise InvalidRowError(
            f"The last message of the prompt is of the {messages[-1].role}. A prompt that ends "
            "with a message of the user is expected.",
            where=where,
        )


def _check_turns(messages: Sequence[Message], where: str) -> None:
    n_system = sum(message.role == "system" for message in messages)
    if n_system > 1:
        raise InvalidRowError(
            f"The conversation has {n_system} system messages. At most one is expected, before "
            "all others.",
            where=where,
        )
    turns = messages[n_system:] if messages and messages[0].role == "system" else messages
    if not turns:
        raise InvalidRowError(
            "The conversation has no messages of user and assistant. At least one of each is "
            "expected.",
            where=where,
        )
    for number, message in enumerate(turns):
        expected = ("user", "assistant")[number % 2]
        place = number + 1 + len(messages) - len(turns)
        if message.role == "system":
            raise InvalidRowError(
                f"Message {place} is a system message. It is expected before all others.",
                where=where,
            )
        if message.role != expected:
            raise InvalidRowError(
                f"Message {place} is of the {message.role}. Messages of user and assistant are "
                "expected in turns, the first of the user.",
                where=where,
            )
        if not message.content:
            what = "answer" if message.role == "assistant" else "message of the user"
            raise EmptyError(f"{what} (message {place})", where=where)
