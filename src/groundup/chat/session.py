"""A conversation: its messages, and how the next answer is sampled from the model.

The session is independent of any terminal or server. It renders the messages with the function and
the template used in training (otherwise the answers would be nonsense), streams the answer as text,
and drops the oldest exchange when the conversation no longer fits into the context.
"""

import codecs
import logging
from collections.abc import Callable, Collection, Iterator

from groundup.base.errors import UsageError, UserError
from groundup.tokenizer.chat_template import ChatTemplate
from groundup.tokenizer.conversation import render_ids
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
        if max_new_tokens < 1 or max_new_tokens >= context_length:
            raise UsageError(
                f"An answer of {max_new_tokens} tokens does not fit into a context of "
                f"{context_length}. At least 1 token, and less than the context, is expected.",
                settings={"max_new_tokens": max(1, context_length // 2)},
            )
        self._first = [] if system is None else [Message(role="system", content=system)]
        self.messages: list[Message] = list(self._first)
        self.n_forgotten = 0
        self._speak = speak
        self._tokenizer = tokenizer
        self._template = template
        # SentencePiece puts a space before a text, and so before an answer.
        self._begins_with_space = template is not None and tokenizer.decode(
            tokenizer.encode("a")
        ).startswith(" ")
        self._context_length = context_length
        self._max_new_tokens = max_new_tokens
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

    def reset(self) -> None:
        """Clear the conversation."""
        self.messages[:] = self._first
        self.n_forgotten = 0

    def ask(self, question: str) -> Iterator[str]:
        """Stream the answer to a question, piece by piece, and keep both in the conversation.

        A piece consists of complete characters: bytes of an incomplete character are held back.
        If the reader stops early (Ctrl-C), the partial answer is kept.

        Raises:
            UserError: The question is empty, or too long for the context.
        """
        if not question.strip():
            raise UsageError("The question is empty. Some text is expected.")
        self.messages.append(Message(role="user", content=question.strip()))
        try:
            prompt = self._fit()
        except UserError:
            self.messages.pop()
            raise
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        pieces: list[str] = []
        try:
            for token in self._speak(prompt, self._max_new_tokens):
                if token in self._stops:
                    break
                piece = decoder.decode(self._tokenizer.token_bytes(token))
                if self._begins_with_space and not pieces:
                    piece = piece.removeprefix(" ")
                if piece:
                    pieces.append(piece)
                    yield piece
            tail = decoder.decode(b"", final=True)
            if tail:
                pieces.append(tail)
                yield tail
        finally:
            self.messages.append(Message(role="assistant", content="".join(pieces)))

    def _fit(self) -> list[int]:
        """Render the conversation, without its oldest exchanges where it does not fit."""
        room = self._context_length - self._max_new_tokens
        while True:
            prompt, _ = render_ids(
                self.messages, self._tokenizer, self._template, add_generation_prompt=True
            )
            if len(prompt) <= room:
                return prompt
            n_first = len(self._first)
            if len(self.messages) <= n_first + 1:
                left = self._context_length - len(prompt)
                raise UserError(
                    f"The question takes {len(prompt)} tokens with the chat template. At most "
                    f"{room} fit beside an answer of {self._max_new_tokens}. Ask a shorter "
                    "question, or start the chat with shorter answers.",
                    settings={"max_new_tokens": left} if left > 0 else None,
                )
            # A question is dropped together with its answer, which makes no sense alone.
            del self.messages[n_first : n_first + 2]
            if not self.n_forgotten:
                _log.warning(
                    "The conversation is longer than the context of %d tokens: its oldest "
                    "questions and answers are left out from now on",
                    self._context_length,
                )
            self.n_forgotten += 1
