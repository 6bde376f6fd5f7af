"""A conversation: its messages, and how the next answer is sampled from the model.

The session is independent of any terminal or server. It renders the messages with the function and
the template used in training (otherwise the answers would be nonsense), streams the answer as text,
and leaves out the oldest exchanges when the conversation no longer fits into the context.
"""

import logging
from collections.abc import Callable, Collection, Generator, Iterator

from groundup.base.errors import UsageError, UserError
from groundup.chat.transcript import Exchange
from groundup.evaluation.text_generation import token_bytes
from groundup.generation.text_stream import TextStream
from groundup.tokenizer.chat_template import ChatTemplate
from groundup.tokenizer.conversation import answers_begin_with_space, render_ids
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.special import END, END_OF_TEXT
from groundup.tokenizer.template import Message

_log = logging.getLogger(__name__)

Speak = Callable[[list[int], int], Iterator[int]]
"""Called with the ids and the maximum number of new ones; yields new ids one at a time."""


class ChatSession:
    """Messages in order, and `ask`, which adds one exchange to them.

    Args:
        speak: Samples new ids from a model, for example `groundup.generation.generate.stream`.
        tokenizer: The tokenizer of that model, with the four special tokens of the chat template.
        context_length: Context length of the model: conversation and answer together.
        max_new_tokens: Maximum length of an answer, in tokens.
        stop_ids: Further ids that end an answer, besides `<|end|>` and `<|endoftext|>`.
        template: The chat template of an imported model. None: the one of our assistants.
        system: System message that begins the conversation. None: none.

    Raises:
        UserError: An answer of this length leaves no room for a question, or the template has no
            system messages.
    """

    def __init__(
        self,
        speak: Speak,
        tokenizer: Tokenizer,
        *,
        context_length: int,
        max_new_tokens: int = 64,
        stop_ids: Collection[int] = (),
        template: ChatTemplate | None = None,
        system: str | None = None,
    ) -> None:
        check_answer_length(max_new_tokens, context_length)
        self.max_new_tokens = max_new_tokens
        self.system = system
        self._first = [] if system is None else [Message(role="system", content=system)]
        self.messages: list[Message] = list(self._first)
        """All messages, also those that no longer fit into the context."""
        self.n_forgotten = 0
        """The number of exchanges that are left out, from the first one on."""
        self.report: Callable[[str], None] = _log.warning
        """Called with a sentence when exchanges are left out."""
        self._speak = speak
        self._tokenizer = tokenizer
        self._template = template
        self._begins_with_space = answers_begin_with_space(tokenizer, template)
        self._context_length = context_length
        self._stops = {
            tokenizer.special_tokens[name]
            for name in (END, END_OF_TEXT)
            if name in tokenizer.special_tokens
        } | set(stop_ids)
        if system is not None:
            render_ids([*self._first, Message(role="user", content="")], tokenizer, template)

    @property
    def is_imported(self) -> bool:
        """Whether the chat template is that of an imported model."""
        return self._template is not None

    @property
    def exchanges(self) -> list[Exchange]:
        """Questions and answers since the conversation began."""
        said = [message.content for message in self.messages[len(self._first) :]]
        return [
            Exchange("user", question, "assistant", answer)
            for question, answer in zip(said[::2], said[1::2], strict=True)
        ]

    def reset(self) -> None:
        """Clear the conversation."""
        self.messages[:] = self._first
        self.n_forgotten = 0

    def undo(self) -> str | None:
        """Remove the last exchange, and return its question. None: there is none."""
        if len(self.messages) == len(self._first):
            return None
        question = self.messages[-2].content
        del self.messages[-2:]
        self.n_forgotten = 0  # those that fit again are not left out
        return question

    def restore(self, exchange: Exchange) -> None:
        """Add the exchange that `undo` has removed."""
        self.messages.append(Message(role="user", content=exchange.question))
        self.messages.append(Message(role="assistant", content=exchange.answer))

    def ask(self, question: str) -> Generator[str, None, None]:
        """Stream the answer to a question, piece by piece, and keep both in the conversation.

        A piece consists of complete characters: bytes of an incomplete character are held back.
        If the reader stops early (Ctrl-C), the partial answer is kept; without any text of an
        answer, the question is not kept either.

        Raises:
            UserError: The question is empty, or too long for the context.
        """
        if not question.strip():
            raise UsageError("The question is empty. Some text is expected.")
        message = Message(role="user", content=question.strip())
        prompt = self._fit(message)
        self.messages.append(message)
        stream = TextStream(token_bytes(self._tokenizer))
        answer, is_complete, drops_space = "", False, self._begins_with_space
        try:
            for token in self._speak(prompt, self.max_new_tokens):
                if token in self._stops:
                    break
                piece = stream.push(token)
                if piece and drops_space:
                    piece, drops_space = piece.removeprefix(" "), False
                if piece:
                    answer += piece
                    yield piece
            is_complete, tail = True, stream.close()
            if tail:
                answer += tail
                yield tail
        finally:
            if answer or is_complete:
                self.messages.append(Message(role="assistant", content=answer))
            else:
                self.messages.pop()

    def _fit(self, message: Message) -> list[int]:
        """Render the conversation, without its oldest exchanges where it does not fit."""
        room = self._context_length - self.max_new_tokens
        n_first, n_whole, n_before = len(self._first), 0, self.n_forgotten
        while True:
            # A question is left out together with its answer, which makes no sense alone.
            recent = self.messages[n_first + 2 * self.n_forgotten :]
            prompt, _ = render_ids(
                [*self._first, *recent, message],
                self._tokenizer,
                self._template,
                add_generation_prompt=True,
            )
            n_whole = n_whole or len(prompt)
            if len(prompt) <= room:
                break
            if not recent:
                self.n_forgotten = n_before
                raise _too_long(len(prompt), room, self._context_length)
            self.n_forgotten += 1
        if n_left_out := self.n_forgotten - n_before:
            self.report(left_out(n_whole, room, self._context_length, n_left_out, self.n_forgotten))
        return prompt


def check_answer_length(max_new_tokens: int, context_length: int) -> None:
    """Check that an answer leaves room for a question.

    Raises:
        UserError: It does not.
    """
    if max_new_tokens < 1 or max_new_tokens >= context_length:
        raise UsageError(
            f"An answer of {max_new_tokens} tokens does not fit into a context of "
            f"{context_length}. At least 1 token, and less than the context, is expected.",
            settings={"max_new_tokens": max(1, context_length // 2)},
        )


def left_out(n_tokens: int, room: int, context_length: int, n_new: int, n_in_all: int) -> str:
    """Say that the oldest exchanges are left out.

    >>> left_out(900, 768, 1024, 1, 3).split(". ")[1]
    'Its oldest exchange is left out, 3 since the beginning.'
    """
    what = "exchange is" if n_new == 1 else f"{n_new:,} exchanges are"
    return (
        f"The conversation has {n_tokens:,} tokens, and {room:,} fit into the context of "
        f"{context_length:,} beside an answer. Its oldest {what} left out, {n_in_all:,} since the "
        "beginning."
    )


def _too_long(n_tokens: int, room: int, context_length: int) -> UserError:
    left = context_length - n_tokens
    return UserError(
        f"The question takes {n_tokens:,} tokens with the chat template. At most {room:,} fit "
        f"beside an answer of {context_length - room:,}. Ask a shorter question, or allow shorter "
        "answers.",
        settings={"max_new_tokens": left} if left > 0 else None,
    )
