"""Chat templates: Jinja programs that write a conversation as text, our own and those of others.

`tokenizer/template.py` inserts our special tokens as ids. Other libraries render text with
CHAT_TEMPLATE and then encode it with special tokens allowed, which gives the same ids unless the
text of a message contains the name of a special token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from groundup.base.errors import UserError
from groundup.base.files import write_json, write_text
from groundup.base.sequences import n_common
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.sandbox import Program, RefusedMessagesError
from groundup.tokenizer.special import ASSISTANT, END, USER
from groundup.tokenizer.special_names import (
    COMMON_SETTINGS,
    SETTINGS_FILE,
    read_settings,
    special_names,
)
from groundup.tokenizer.template import Message, render, render_prompt

_TURN = "{{ '%s' + message['content'] + '" + END + "' }}"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    f"{{% if message['role'] == 'user' %}}{_TURN % USER}"
    f"{{% elif message['role'] == 'assistant' %}}{_TURN % ASSISTANT}"
    "{% else %}{{ raise_exception('The roles of this template are user and assistant.') }}"
    "{% endif %}{% endfor %}"
    f"{{% if add_generation_prompt %}}{{{{ '{ASSISTANT}' }}}}{{% endif %}}"
)
TEMPLATE_FILES = (SETTINGS_FILE, "chat_template.jinja")
"""The files beside a tokenizer that have its chat template and the names of its special tokens."""

_TEXTS = (
    "Hello",
    " a space",
    "two\nlines\n",
    "",
    "It's 12:30, naïve café",
    "中文 😀",
    "{{ 1 }} <b>",
)
_CONVERSATIONS = tuple(
    [
        Message("user" if turn % 2 == 0 else "assistant", _TEXTS[(start + turn) % len(_TEXTS)])
        for turn in range(n_turns)
    ]
    for start, n_turns in enumerate((1, 2, 3, 4, 1, 2, 5))
)
"""Conversations on which two renderings are compared."""


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template of another project, and what it may read beside the messages."""

    source: str
    tokens: Mapping[str, str] = field(default_factory=dict)
    """Special tokens by the name of their variable, such as bos_token."""
    where: Path | None = None
    """The file that it was read from."""

    @cached_property
    def program(self) -> Program:
        """The template, read."""
        try:
            return Program(self.source)
        except UserError as error:
            raise UserError(error.message, where=self.where) from error

    def render(
        self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = False
    ) -> str:
        """Write a conversation as text, as `apply_chat_template` of transformers does.

        Raises:
            UserError: The template is invalid, exceeds what a template may do, or refuses the
                messages.
        """
        variables: dict[str, Any] = {
            "messages": [dict(message) for message in messages],
            "tools": None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
        }
        n_characters = sum(len(text) for message in messages for text in message.values())
        try:
            return self.program.render({**self.tokens, **variables}, n_characters)
        except RefusedMessagesError as error:
            raise UserError(f"The chat template refuses the messages: {error}") from error
        except UserError as error:
            raise UserError(error.message, where=self.where) from error

    def check(self) -> None:
        """Check that it can be rendered, unless it refuses a single question.

        Raises:
            UserError: It is invalid, or exceeds what a template may do.
        """
        for messages in ([("user", "Hi")], [("user", "Hi"), ("assistant", "Hello")]):
            variables = {
                "messages": [{"role": role, "content": text} for role, text in messages],
                "tools": None,
                "documents": None,
                "add_generation_prompt": len(messages) == 1,
            }
            try:
                self.program.render({**self.tokens, **variables}, 10)
            except RefusedMessagesError:
                pass
            except UserError as error:
                raise UserError(error.message, where=self.where) from error

    def save(self, folder: Path) -> None:
        """Write tokenizer_config.json, as transformers reads it, into a tokenizer's folder."""
        write_json(folder / TEMPLATE_FILES[0], {**COMMON_SETTINGS, **self.tokens})
        write_text(folder / TEMPLATE_FILES[1], self.source)


def read_chat_template(folder: Path) -> ChatTemplate | None:
    """Read the chat template of a tokenizer's folder; None if there is none.

    chat_template.jinja comes before the one in tokenizer_config.json. Of several with names, the
    one named "default" is taken.

    Raises:
        UserError: A file is not valid.
    """
    config, file = (folder / name for name in TEMPLATE_FILES)
    about = read_settings(config)
    where, source = config, about.get("chat_template")
    if isinstance(source, list):
        named = {
            entry.get("name"): entry.get("template") for entry in source if isinstance(entry, dict)
        }
        source = named.get("default")
    if file.is_file():
        try:
            where, source = file, file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"This file cannot be read ({error}).", where=file) from error
    if source is None:
        return None
    if not isinstance(source, str):
        raise UserError("chat_template is no text. A template is expected.", where=where)
    return ChatTemplate(source, special_names(about), where)


def render_template(
    template: str, messages: Sequence[Message], *, add_generation_prompt: bool
) -> str:
    """Render a chat template as `transformers` does, in a sandbox without access to Python.

    Raises:
        UserError: The template is invalid, or refuses the messages.
    """
    return ChatTemplate(template).render(
        [vars(message) for message in messages], add_generation_prompt=add_generation_prompt
    )


def check_chat_template(template: str, tokenizer: Tokenizer) -> int:
    """Compare the ids of a template with those of `render` and `render_prompt`.

    Returns:
        The number of ids that were compared.

    Raises:
        UserError: The template is invalid, or gives other ids.
    """
    n_ids = 0
    for conversation in _CONVERSATIONS:
        for is_prompt in (False, True):
            ids = render(conversation, tokenizer)[0]
            if is_prompt:
                ids = render_prompt(conversation, tokenizer)
            text = render_template(template, conversation, add_generation_prompt=is_prompt)
            theirs = tokenizer.encode(text, allowed_special="all")
            if theirs != ids:
                at = n_common(ids, theirs)
                raise UserError(
                    f"The chat template gives other ids than those of training, from id {at} on: "
                    f"{theirs[at : at + 5]} instead of {ids[at : at + 5]}."
                )
            n_ids += len(ids)
    return n_ids
