"""One text while it is generated: its tokens, its row of the decoder, and why it ended."""

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Literal

from torch import Tensor

from groundup.generation.decoder import Decoder, Row
from groundup.generation.prompt_lookup import PromptLookup
from groundup.generation.request import Request
from groundup.generation.sampler import Sampler, Token
from groundup.generation.text_stream import TextStream

_log = logging.getLogger(__name__)

FinishReason = Literal["stop", "length", "cancelled", "error"]
"""stop: a stop id, a stop string or a constraint ended the text; length: max_new_tokens were
generated, or the context is full; error: no token could be computed or drawn."""
_MOST_RESERVED = 512
"""New tokens that a row has memory for from the beginning; most texts end early."""


def window_start(n_tokens: int, context_length: int) -> int:
    """Start of the window over the last tokens that the model reads, for a text of n tokens.

    While the text fits into the context the window starts at 0. Then it moves forward by a quarter
    of the context at a time: each move invalidates the KV cache, so moving the window for every
    token would make the cache useless.

    >>> [window_start(n, 8) for n in (7, 8, 9, 10, 11)]
    [0, 0, 2, 2, 4]
    """
    step = max(1, context_length // 4)
    excess = max(0, n_tokens - context_length)
    return -(-excess // step) * step


def warn_of_window(n_tokens: int, context_length: int, start: int) -> None:
    """Log that the model does not read the beginning of a text."""
    _log.warning(
        "%d tokens do not fit in a context of %d. The model ignores the first %d.",
        n_tokens,
        context_length,
        start,
    )


class TextSequence:
    """One of the texts of a request.

    The row holds the keys and values of the tokens that the decoder has read. The others are
    unread: the prompt at first, then the token that was drawn last.

    Args:
        request: What is asked.
        index: Which of its texts this is; it is added to the seed.
        context_length: Context length of the model.
        token_bytes: The bytes of one token. None: no text is made, only ids.
        hidden_ids: Ids that are no text.
    """

    def __init__(
        self,
        request: Request,
        index: int,
        *,
        context_length: int,
        token_bytes: Callable[[int], bytes] | None = None,
        hidden_ids: Collection[int] = (),
    ) -> None:
        self.request, self.index = request, index
        self.tokens = list(request.ids)
        self.row: Row | None = None
        self._new_row: Callable[[], Row]
        self.finish_reason: FinishReason | None = None
        self.error: Exception | None = None
        self._context_length = context_length
        self._start = 0  # of the window that the row holds
        self._warned = False
        self._stop_ids = frozenset(request.stop_ids)
        self._sampler = Sampler(
            request.sampling,
            request.ids,
            seed=request.sampling.seed + index,
            stop_ids=sorted(self._stop_ids),
            logprobs=request.logprobs,
            constraint=None if request.constraint is None else request.constraint(),
        )
        self._text = (
            None
            if token_bytes is None
            else TextStream(token_bytes, hidden_ids=hidden_ids, stop=request.stop)
        )
        self._lookup = PromptLookup() if request.prompt_lookup else None
        self._new: list[Token] = []
        self._piece = ""
        if request.max_new_tokens == 0:
            self.finish("length")

    @property
    def n_left(self) -> int:
        """Number of tokens that may still be generated."""
        return self.request.max_new_tokens - (len(self.tokens) - len(self.request.ids))

    @property
    def unread(self) -> list[int]:
        """Tokens that the decoder has to read before the next one can be drawn."""
        assert self.row is not None
        return self.tokens[self._start + self.row.length :]

    @property
    def most_positions(self) -> int:
        """Number of positions that the row may need."""
        return min(len(self.request.ids) + self.request.max_new_tokens, self._context_length)

    @property
    def first_positions(self) -> int:
        """Number of positions that the row has memory for from the beginning."""
        return min(len(self.request.ids) + _MOST_RESERVED, self.most_positions)

    def begin(self, decoder: Decoder, row: Row | None = None) -> None:
        """Take a row, which may hold the beginning of the prompt."""
        n_positions = self.first_positions
        self._new_row = lambda: decoder.new_row(n_positions)
        self.row = self._new_row() if row is None else row
        self._slide()

    def draft(self) -> list[int]:
        """Guess the tokens after the last one, without prompt lookup none."""
        if self._lookup is None or self.row is None:
            return []
        room = min(self.n_left, self._context_length - self.row.length) - 1
        return self._lookup.draft(self.tokens, room) if room > 0 else []

    def take(self, logits: Tensor, draft: Sequence[int] = ()) -> None:
        """Draw the next token, and further ones while they are those of the draft.

        Args:
            logits: Logits after the last token and after each token of the draft, (1 + k, V).
            draft: The tokens that were read after the last one.
        """
        assert self.row is not None
        try:
            self._draw(logits, draft)
            if self.finish_reason is None:
                self.row.truncate(min(self.row.length, len(self.tokens) - 1 - self._start))
                self._slide()
        except Exception as error:  # of this text only
            self.fail(error)

    def _draw(self, logits: Tensor, draft: Sequence[int]) -> None:
        n_before = len(self.tokens)
        for i, after in enumerate(logits):
            token = self._sampler.draw(after, self.n_left)
            self._add(token)
            is_as_guessed = i < len(draft) and token.id == draft[i]
            if self.finish_reason is not None or not is_as_guessed:
                break
        if draft and self._lookup is not None:
            n_accepted = max(0, len(self.tokens) - n_before - 1)
            self._lookup.record(len(self.tokens), len(draft), n_accepted)

    def finish(self, reason: FinishReason) -> None:
        """End the text."""
        if self.finish_reason is None:
            self.finish_reason = reason
            if self._text is not None:
                self._piece += self._text.close()
                if self._text.stopped and reason == "length":
                    self.finish_reason = "stop"

    def fail(self, error: Exception) -> None:
        """End the text because of an error, unless it has ended."""
        if self.finish_reason is None:
            self.error = error
            self.finish("error")

    def news(self) -> tuple[tuple[Token, ...], str]:
        """Return the tokens and the text since the last call."""
        tokens, piece = tuple(self._new), self._piece
        self._new, self._piece = [], ""
        return tokens, piece

    def _add(self, token: Token) -> None:
        constraint = self._sampler.constraint
        if token.id in self._stop_ids:
            self.finish("stop")
            return
        self.tokens.append(token.id)
        self._new.append(token)
        if self._text is not None:
            self._piece += self._text.push(token.id)
        if (self._text is not None and self._text.stopped) or (
            constraint is not None
            and (constraint.must_end or (constraint.may_end and not self._stop_ids))
        ):
            self.finish("stop")
        elif self.n_left == 0 or (
            len(self.tokens) > self._context_length and not self.request.slide
        ):
            self.finish("length")

    def _slide(self) -> None:
        """Move the window if the text no longer fits in the context."""
        assert self.row is not None
        start = window_start(len(self.tokens), self._context_length)
        if start != self._start:
            if not self._warned:
                warn_of_window(len(self.tokens), self._context_length, start)
                self._warned = True
            self._start = start
            self.row = self._new_row()
