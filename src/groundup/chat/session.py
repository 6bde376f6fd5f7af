"""A conversation: what was said so far, and how the next answer is drawn from the model.

The session knows no terminal and no server. It holds the messages, renders them with the template
that training used (a different one would make the model answer nonsense), streams the answer as
text, and forgets the oldest exchange when the conversation no longer fits the context.
"""

import codecs
from collections.abc import Callable, Iterator

from groundup.base.errors import UserError
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.special import END, END_OF_TEXT
from groundup.tokenizer.template import Message, render_prompt

Speak = Callable[[list[int], int], Iterator[int]]
"""Continue the ids with at most so many new ones, one at a time."""


class ChatSession:
    """Messages in order, and `ask`, which adds one exchange to them.

    Args:
        speak: Draws new ids from a model, for example a partial of `groundup.generate.stream`.
        tokenizer: The tokenizer of that model; it must know the four special tokens.
        context_length: Tokens the model can see: conversation and answer together.
        max_new_tokens: The longest answer, in tokens.
    """

    def __init__(
        self, speak: Speak, tokenizer: Tokenizer, *, context_length: int, max_new_tokens: int = 64
    ) -> None:
        if max_new_tokens < 1 or max_new_tokens >= context_length:
            raise UserError(
                f"an answer of {max_new_tokens} tokens in a context of {context_length}",
                need="one token or more, and fewer than the context,",
                type_this=f"--max-new-tokens {max(1, context_length // 2)}",
            )
        self.messages: list[Message] = []
        self.n_forgotten = 0
        self._speak = speak
        self._tokenizer = tokenizer
        self._context_length = context_length
        self._max_new_tokens = max_new_tokens
        self._stops = {
            tokenizer.special_tokens[name]
            for name in (END, END_OF_TEXT)
            if name in tokenizer.special_tokens
        }

    def reset(self) -> None:
        """Forget everything that was said."""
        self.messages.clear()
        self.n_forgotten = 0

    def ask(self, question: str) -> Iterator[str]:
        """Stream the answer to a question, piece by piece, and remember both.

        A piece is always whole characters: bytes of a character still on its way are held back.
        If the reader stops half way (Ctrl-C), what was said until then is what is remembered.

        Raises:
            UserError: the question is empty, or alone too long for the context.
        """
        if not question.strip():
            raise UserError("the question is empty", need="something to answer")
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
        """Render the conversation, without its oldest exchanges where it would not fit."""
        room = self._context_length - self._max_new_tokens
        while True:
            prompt = render_prompt(self.messages, self._tokenizer)
            if len(prompt) <= room:
                return prompt
            if len(self.messages) <= 1:
                raise UserError(
                    f"the question takes {len(prompt)} tokens with its frame",
                    need=f"at most {room} (an answer of {self._max_new_tokens} has to fit too)",
                    type_this="/reset, or start the chat with a smaller --max-new-tokens",
                )
            # A question goes together with its answer: an answer alone would confuse the model.
            del self.messages[:2]
            self.n_forgotten += 1
