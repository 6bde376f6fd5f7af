"""From conversations to training rows: ids, and a target where a token is trained.

A token is trained if it belongs to an answer or ends one. The mask is made together with the ids,
turn by turn (`tokenizer/conversation.py`), never found again by searching the text. An answer is
never cut: a model that is trained on cut answers does not learn to end them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from groundup.base.errors import UserError
from groundup.finetune.batches import Row, language_row
from groundup.records.rows import Conversation
from groundup.tokenizer.chat_template import ChatTemplate
from groundup.tokenizer.conversation import render_ids
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.template import Message

Overlong = Literal["drop", "error", "split-turns"]

_QUESTION, _ANSWER = "A question from the user.", "An answer by the assistant."


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of conversations that fit the context."""

    conversations: list[Conversation]
    """Those that fit, or their parts, one for each row."""
    rows: list[Row]
    origins: list[int]
    """The number of the conversation that each row is from."""
    n_too_long: int = 0
    """Number of conversations that were left out, or of exchanges if they were split."""
    n_split: int = 0
    """Number of conversations that were divided at their turns."""

    @property
    def n_trained_tokens(self) -> int:
        """Number of targets."""
        return sum(target >= 0 for _, targets in self.rows for target in targets)


@dataclass(frozen=True, kw_only=True)
class ShownToken:
    """One token of a conversation, as `groundup instruct --show` prints it."""

    index: int
    text: str
    is_trained: bool


def make_rows(
    conversations: Sequence[Conversation],
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    context_length: int,
    *,
    overlong: Overlong = "drop",
) -> Rows:
    """Render conversations, and leave out or divide those that are longer than the context.

    Args:
        conversations: The conversations.
        tokenizer: The tokenizer of the model.
        template: The chat template of the model. None: that of our assistants.
        context_length: Maximum number of tokens of a row.
        overlong: "drop" leaves out a conversation that is too long, "error" refuses it,
            "split-turns" divides it between an answer and the next question. A system message
            begins every part.

    Raises:
        UserError: No token of a conversation would be trained, or one is too long with "error".
    """
    kept: list[Conversation] = []
    rows: list[Row] = []
    origins: list[int] = []
    n_too_long = n_split = 0
    for number, whole in enumerate(conversations):
        parts = [whole]
        ids, mask = _rendered(whole, tokenizer, template)
        row = language_row(ids, mask, context_length)
        if row is None and overlong == "error":
            raise UserError(
                f"This conversation has {len(ids):,} tokens with the chat template, and the "
                f"context of the model has {context_length:,}. A shorter one is expected; the "
                "setting overlong leaves out or divides such conversations.",
                where=whole.where,
                settings={"overlong": "drop"},
            )
        if row is None and overlong == "split-turns":
            parts = list(_parts(whole, tokenizer, template, context_length))
            n_split += len(parts) > 1
        for part in parts:
            if part is not whole:
                row = language_row(*_rendered(part, tokenizer, template), context_length)
            if row is None:
                n_too_long += 1
            else:
                kept.append(part)
                rows.append(row)
                origins.append(number)
    return Rows(
        conversations=kept, rows=rows, origins=origins, n_too_long=n_too_long, n_split=n_split
    )


def check_template(tokenizer: Tokenizer, template: ChatTemplate | None) -> None:
    """Check that a chat template can be trained on: it writes answers, and ends them.

    Raises:
        UserError: The template leaves out the assistant's messages, or writes no special token
            after them, so that the model would not learn to stop.
    """
    if template is None:
        return
    messages = [Message("user", _QUESTION), Message("assistant", _ANSWER)]
    ids, mask = render_ids(messages, tokenizer, template)
    if not any(mask):
        raise UserError(
            "The chat template has no part for the assistant: it writes nothing of an answer, so "
            "there is nothing to train on. A template that writes the messages of the assistant "
            "is expected.",
            where=template.where,
        )
    special = set(tokenizer.special_tokens.values())
    if not any(m and index in special for index, m in zip(ids, mask, strict=True)):
        raise UserError(
            "The chat template writes no special token at the end of an answer, so that the model "
            "would not learn to stop. A template that ends each answer with a special token, such "
            "as the end-of-text token, is expected.",
            where=template.where,
        )


def generation_prompt_differs(tokenizer: Tokenizer, template: ChatTemplate | None) -> bool:
    """Whether an answer begins otherwise in generation than in a complete conversation.

    Some templates write more (or less) before the answer that is to be generated, for example an
    empty block of reasoning. The model then reads a beginning that it was not trained on.
    """
    question = [Message("user", _QUESTION)]
    prompt, _ = render_ids(question, tokenizer, template, add_generation_prompt=True)
    complete, _ = render_ids([*question, Message("assistant", _ANSWER)], tokenizer, template)
    return complete[: len(prompt)] != prompt


def shown_tokens(
    conversation: Conversation, tokenizer: Tokenizer, template: ChatTemplate | None
) -> list[ShownToken]:
    """List each token of a conversation with whether it is trained.

    Raises:
        UserError: No token would be trained.
    """
    names = {index: name for name, index in tokenizer.special_tokens.items()}
    ids, mask = _rendered(conversation, tokenizer, template)
    return [
        ShownToken(
            index=index,
            text=names.get(index)
            or tokenizer.token_bytes(index).decode("utf-8", errors="backslashreplace"),
            is_trained=bool(m),
        )
        for index, m in zip(ids, mask, strict=True)
    ]


def _rendered(
    conversation: Conversation, tokenizer: Tokenizer, template: ChatTemplate | None
) -> tuple[list[int], list[int]]:
    try:
        ids, mask = render_ids(conversation.messages, tokenizer, template)
    except UserError as error:
        if error.where is not None and template is not None and error.where != template.where:
            raise
        raise UserError(error.message, where=conversation.where) from error
    if not any(mask[1:]):
        raise UserError(
            "No token of this record would be trained: with the chat template, its answer is "
            "empty. A record with an answer is expected.",
            where=conversation.where,
        )
    return ids, mask


def _parts(
    conversation: Conversation,
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    context_length: int,
) -> Iterator[Conversation]:
    """Divide a conversation at its turns into parts that fit, as few as possible.

    An exchange that does not fit alone is yielded all the same: the caller counts it.
    """
    system, exchanges = _exchanges(conversation)

    def with_messages(some: Sequence[Message]) -> Conversation:
        return replace(conversation, messages=(*system, *some))

    part: list[Message] = []
    for exchange in exchanges:
        longer = with_messages([*part, *exchange])
        ids, _ = render_ids(longer.messages, tokenizer, template)
        if part and len(ids) > context_length + 1:
            yield with_messages(part)
            part = []
        part += exchange
    yield with_messages(part)


def _exchanges(conversation: Conversation) -> tuple[tuple[Message, ...], list[list[Message]]]:
    """Separate the system message, and the exchanges that each end with an answer."""
    messages = conversation.messages
    n_system = sum(message.role == "system" for message in messages)
    exchanges: list[list[Message]] = []
    for message in messages[n_system:]:
        if not exchanges or (message.role != "assistant" and exchanges[-1][-1].role == "assistant"):
            exchanges.append([])
        exchanges[-1].append(message)
    return tuple(messages[:n_system]), exchanges
