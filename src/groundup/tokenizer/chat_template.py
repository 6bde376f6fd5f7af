"""The chat template as a Jinja template, which other libraries render.

`tokenizer/template.py` inserts special tokens as ids. Other libraries render text with this
template and then encode it with special tokens allowed, which gives the same ids unless the text of
a message contains the name of a special token.
"""

from collections.abc import Sequence

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from groundup.base.errors import UserError
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.special import ASSISTANT, END, USER
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


def render_template(
    template: str, messages: Sequence[Message], *, add_generation_prompt: bool
) -> str:
    """Render a chat template as `transformers` does, in a sandbox without access to Python.

    Raises:
        UserError: The template is invalid, or refuses the messages.
    """

    def raise_exception(message: str) -> None:
        raise UserError(f"The chat template refuses the messages: {message}")

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
    try:
        return environment.from_string(template).render(
            messages=[vars(message) for message in messages],
            add_generation_prompt=add_generation_prompt,
        )
    except TemplateError as error:
        raise UserError(f"The chat template cannot be rendered: {error}.") from error


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
                at = next(
                    (i for i, (a, b) in enumerate(zip(ids, theirs, strict=False)) if a != b),
                    min(len(ids), len(theirs)),
                )
                raise UserError(
                    f"The chat template gives other ids than those of training, from id {at} on: "
                    f"{theirs[at : at + 5]} instead of {ids[at : at + 5]}."
                )
            n_ids += len(ids)
    return n_ids
