"""The engine: generate many texts at once, each of which joins and leaves between two tokens.

One call of `step` reads one token of every text that is being generated, all together, because the
weights are then read once for all of them, and a part of the prompts of texts that have joined. A
text has the same tokens whatever else is generated.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from groundup.base.errors import UserError
from groundup.base.sequences import n_common
from groundup.generation.decoder import Decoder, Row
from groundup.generation.request import Request, check_lookup
from groundup.generation.sampler import Token
from groundup.generation.sequence import FinishReason, TextSequence

CHUNK = 128
"""Tokens of prompts that are read in one step; other texts wait for them."""
_LEAST_REUSED = 16
"""A stored row is used again if it has this many tokens of a prompt."""


class Handle:
    """A request that was submitted."""

    def __init__(self, request: Request, sequences: tuple[TextSequence, ...]) -> None:
        self.request = request
        self.sequences = sequences
        self.ended_as: FinishReason | None = None
        """Why the texts end at the next step. None: they go on."""

    def cancel(self) -> None:
        """End all texts of the request at the next step. Any thread may call it."""
        self.end("cancelled")

    def end(self, reason: FinishReason) -> None:
        """As `cancel`, with another reason."""
        self.ended_as = self.ended_as or reason

    @property
    def is_finished(self) -> bool:
        """Whether all texts of the request have ended."""
        return all(sequence.finish_reason is not None for sequence in self.sequences)


@dataclass(frozen=True)
class Event:
    """What one step added to one text."""

    handle: Handle
    index: int
    """Which of the texts of the request it is."""
    tokens: tuple[Token, ...]
    """The new tokens, without a stop id."""
    text: str
    """The text that is certain now; empty if the engine has no bytes of tokens."""
    finish_reason: FinishReason | None
    """Why the text ended. None: it goes on."""
    error: Exception | None = None


class Engine:
    """Generates texts for requests.

    One thread calls `step`. Other threads may call `submit`, and `cancel` of a handle.

    Args:
        decoder: Computes the logits.
        max_rows: Maximum number of texts that are generated at once; others wait in order.
        token_bytes: The bytes of one token, for the text of events and for stop strings.
        hidden_ids: Ids that are no text.
        prefill_chunk: Tokens of prompts that are read in one step.
        n_kept_rows: Number of rows of ended texts whose memory is kept, so that a prompt that
            begins in the same way is not read again. A deterministic decoder keeps none.
        max_cache_bytes: Memory for keys and values, in bytes. Texts wait until the longest answers
            of those before them fit. None: no limit.

    >>> from groundup.model.config import GPTConfig
    >>> from groundup.model.gpt import GPT
    >>> model = GPT(GPTConfig(vocab_size=9, context_length=8, d_model=16, n_layers=1, n_heads=2))
    >>> engine = Engine(Decoder(model))
    >>> handle = engine.submit(Request(ids=[1, 2], max_new_tokens=3))
    >>> [event.finish_reason for _ in range(3) for event in engine.step()], engine.is_idle
    ([None, None, 'length'], True)
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        max_rows: int = 16,
        token_bytes: Callable[[int], bytes] | None = None,
        hidden_ids: Collection[int] = (),
        prefill_chunk: int = CHUNK,
        n_kept_rows: int = 0,
        max_cache_bytes: int | None = None,
    ) -> None:
        self.decoder = decoder
        self.max_rows = max_rows
        self.max_cache_bytes = max_cache_bytes
        self._token_bytes = token_bytes
        self._hidden_ids = frozenset(hidden_ids)
        self.prefill_chunk = prefill_chunk
        self._n_kept_rows = 0 if decoder.deterministic else n_kept_rows
        self._waiting: deque[tuple[Handle, TextSequence]] = deque()
        self._running: list[tuple[Handle, TextSequence]] = []
        self._prompts: deque[TextSequence] = deque()
        self._kept: deque[Row] = deque()
        self._shared: Row | None = None

    def share(self, ids: Sequence[int]) -> None:
        """Read a prefix of many prompts once; texts that begin with it copy what was read.

        A deterministic decoder does not share: how a prompt is cut decides the rounding.
        """
        self._shared = None
        if len(ids) >= _LEAST_REUSED and not self.decoder.deterministic:
            self._shared = self.decoder.new_row(len(ids))
            self.decoder.read(ids, self._shared)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to generate."""
        return not self._waiting and not self._running

    @property
    def n_running(self) -> int:
        """Number of texts that are being generated."""
        return len(self._running)

    @property
    def n_waiting(self) -> int:
        """Number of texts that wait until others have ended."""
        return len(self._waiting)

    def check(self, request: Request) -> None:
        """Check a request as `submit` does.

        Raises:
            UserError: As `submit`.
        """
        config = self.decoder.config
        request.check(config.vocab_size, config.context_length)
        check_lookup(request, config)
        if request.stop and self._token_bytes is None:
            raise UserError("Stop strings need the text of tokens. Make the engine with it.")
        if self.max_cache_bytes is None:
            return
        n_bytes = self.decoder.row_bytes(len(request.ids) + request.max_new_tokens)
        n_free = self.max_cache_bytes - (0 if self._shared is None else self._shared.n_bytes)
        if n_bytes > n_free:
            raise UserError(
                f"A prompt of {len(request.ids):,} tokens and an answer of "
                f"{request.max_new_tokens:,} need {n_bytes / 1e6:,.1f} MB for keys and values, and "
                f"there are {n_free / 1e6:,.1f} MB. A shorter prompt or answer is expected."
            )

    def submit(self, request: Request) -> Handle:
        """Add a request; its texts join at the next step.

        Raises:
            UserError: The prompt is empty, too long or has ids outside the vocabulary, a setting is
                out of range, or the longest answer does not fit in the memory.
        """
        self.check(request)
        sequences = tuple(
            TextSequence(
                request,
                index,
                context_length=self.decoder.config.context_length,
                token_bytes=self._token_bytes,
                hidden_ids=self._hidden_ids,
            )
            for index in range(request.n)
        )
        handle = Handle(request, sequences)
        self._waiting.extend((handle, sequence) for sequence in sequences)
        return handle

    def step(self) -> list[Event]:
        """Generate the next tokens, and return what is new."""
        for text in list(self._waiting):
            if text[0].ended_as is not None:
                self._waiting.remove(text)
                self._running.append(text)
        for handle, sequence in self._running:
            if handle.ended_as is not None:
                sequence.finish(handle.ended_as)
        events = self._news()  # the rows of cancelled texts are free before others join
        self._join()
        self._decode([sequence for _, sequence in self._running])
        self._prefill([sequence for _, sequence in self._running])
        events += self._news()
        limit = self.max_cache_bytes
        if self.is_idle or (limit is not None and self.decoder.n_bytes > limit):
            self.decoder.trim()
        return events

    def _news(self) -> list[Event]:
        """What is new of each text; those that have ended leave."""
        events, going_on = [], []
        for handle, sequence in self._running:
            tokens, text = sequence.news()
            reason = sequence.finish_reason
            if tokens or text or reason is not None:
                events.append(Event(handle, sequence.index, tokens, text, reason, sequence.error))
            if reason is None:
                going_on.append((handle, sequence))
            else:
                self._leave(sequence)
        self._running = going_on
        return events

    @property
    def reserved_bytes(self) -> int:
        """Memory that the rows in use need at most when their texts have grown."""
        used = [self._most_bytes(sequence) for _, sequence in self._running]
        others = [*self._kept] if self._shared is None else [*self._kept, self._shared]
        return sum(used) + sum(row.n_bytes for row in others)

    def _most_bytes(self, sequence: TextSequence) -> int:
        n_bytes = self.decoder.row_bytes(sequence.most_positions)
        return n_bytes if sequence.row is None else max(n_bytes, sequence.row.n_bytes)

    def _join(self) -> None:
        """Let texts that wait join, in order, while there is room."""
        joining: list[tuple[Handle, TextSequence]] = []
        reserved = self.reserved_bytes
        while self._waiting and len(self._running) + len(joining) < self.max_rows:
            needed = self._most_bytes(self._waiting[0][1])
            if self.max_cache_bytes is not None:
                while self._kept and reserved + needed > self.max_cache_bytes:
                    reserved -= self._kept.popleft().n_bytes
                if reserved + needed > self.max_cache_bytes:
                    break
            reserved += needed
            joining.append(self._waiting.popleft())
        self._running += joining
        sequences = [sequence for _, sequence in joining]
        with _failing(sequences):
            if len(joining) > 1:
                self.decoder.make_room([sequence.first_positions for sequence in sequences])
        for sequence in sequences:
            if sequence.finish_reason is None:
                with _failing([sequence]):
                    sequence.begin(self.decoder, self._row_with(sequence.tokens))

    def _decode(self, sequences: list[TextSequence]) -> None:
        """Read the one token of each text that was drawn last, all together, and draw the next."""
        ready = [s for s in sequences if s.finish_reason is None and len(s.unread) == 1]
        # A draft is read for its text alone, which costs more than it saves beside others.
        if len(ready) == 1 or self.decoder.deterministic:
            for sequence in list(ready):
                if draft := sequence.draft():
                    ready.remove(sequence)
                    self._read(sequence, [*sequence.unread, *draft], draft)
        if ready:
            with _failing(ready):
                logits = self.decoder.step([s.unread[0] for s in ready], [_row(s) for s in ready])
                for i, sequence in enumerate(ready):
                    sequence.take(logits[i : i + 1])

    def _prefill(self, sequences: list[TextSequence]) -> None:
        """Read the next part of prompts, in turn: a long one does not keep the others waiting."""
        unread = [s for s in sequences if s.finish_reason is None and len(s.unread) > 1]
        known = [s for s in self._prompts if s in unread]
        self._prompts = deque([*known, *(s for s in unread if s not in known)])
        n_left = self.prefill_chunk
        for _ in range(len(self._prompts)):
            # A part has the same length whatever else is read: it decides the rounding.
            sequence = self._prompts.popleft()
            part = sequence.unread[: self.prefill_chunk]
            self._read(sequence, part)
            self._prompts.append(sequence)
            n_left -= len(part)
            if n_left <= 0:
                return

    def _read(self, sequence: TextSequence, ids: list[int], draft: list[int] | None = None) -> None:
        draft = draft or []
        with _failing([sequence]):
            logits = self.decoder.read(ids, _row(sequence), n_last=1 + len(draft))
            if draft or not sequence.unread:
                sequence.take(logits, draft)

    def _leave(self, sequence: TextSequence) -> None:
        row, sequence.row = sequence.row, None
        if row is not None and row.length and self._n_kept_rows and sequence.error is None:
            self._kept.append(row)
            if len(self._kept) > self._n_kept_rows:
                self._kept.popleft()

    def _row_with(self, tokens: list[int]) -> Row | None:
        """Take the kept row that has the most tokens in common with a prompt; None for few."""
        found = max(self._kept, key=lambda row: n_common(row.ids, tokens), default=None)
        # The last token of the prompt is read in any case: its logits are not kept.
        n_same = 0 if found is None else min(n_common(found.ids, tokens), len(tokens) - 1)
        shared = self._shared
        n_shared = 0 if shared is None else min(n_common(shared.ids, tokens), len(tokens) - 1)
        if shared is not None and n_shared > n_same and n_shared >= _LEAST_REUSED:
            try:
                return self.decoder.copied_row(shared, n_shared, len(tokens))
            except UserError:  # a sliding window no longer holds the positions before
                return None
        if found is None or n_same < _LEAST_REUSED:
            return None
        self._kept.remove(found)
        try:
            found.truncate(n_same)
        except UserError:  # a sliding window no longer holds the positions before
            return None
        return found


@contextmanager
def _failing(sequences: Sequence[TextSequence]) -> Iterator[None]:
    """End these texts if the block fails, for example out of memory; the others go on."""
    try:
        yield
    except Exception as error:
        for sequence in sequences:
            sequence.fail(error)


def _row(sequence: TextSequence) -> Row:
    assert sequence.row is not None
    return sequence.row
