"""The plan of a server: what it will do on this machine, measured before it takes requests."""

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from groundup.base.errors import UserError
from groundup.base.machine import free_memory_bytes
from groundup.generation.decoder import Decoder, Row
from groundup.generation.engine import Engine
from groundup.generation.request import Sampling
from groundup.generation.sampler import Sampler
from groundup.serve.admission import fitting

_READ_BUDGET_S, _STEP_BUDGET_S = 1.5, 0.4
_LEAST_STEPS, _MOST_STEPS = 3, 30
_ROWS = (1, 4, 16, 64)
_SHORT = 16
"""Tokens of a short prompt or text, for the part of a time that does not depend on the length."""


@dataclass(frozen=True)
class StepTime:
    """Time of a step, which adds one token to each text."""

    n_rows: int
    """Texts that are generated together."""
    length: int
    """Tokens of each text."""
    step_s: float


@dataclass(frozen=True)
class Plan:
    """What a server will do on this machine. Times between the measured ones lie on lines."""

    n_prompt: int
    """Tokens of the prompt of a typical request."""
    n_new: int
    """Tokens of its answer."""
    reads: tuple[tuple[int, float], ...]
    """Tokens of prompts, and the time to read each on an idle server and to draw a token."""
    steps: tuple[StepTime, ...]
    """Times of steps, for several numbers of texts and lengths."""
    request_bytes: int
    """Memory of the keys and values of a typical request."""
    cache_bytes: int
    """Memory for the keys and values of all requests."""
    n_fit: int
    """Typical requests that are generated at once."""
    probe_s: float
    """Time that the measurement took."""
    token_s: float = 0.0
    """Time for each token beside the engine: its event, JSON and HTTP."""

    @property
    def n_rows(self) -> tuple[int, ...]:
        """The numbers of texts at once that were measured."""
        return tuple(sorted({step.n_rows for step in self.steps}))

    def first_token_s(self, n_prompt: int | None = None) -> float:
        """Predict the time to the first token on an idle server. None: of a typical prompt."""
        return self.token_s + _on_line(dict(self.reads), n_prompt or self.n_prompt)

    def step_s(self, n_rows: int, length: float | int | None = None) -> float:
        """Predict the time of a step. None: in the middle of a typical answer."""
        length = self.n_prompt + self.n_new / 2 if length is None else length
        times = {
            n: _on_line({s.length: s.step_s for s in self.steps if s.n_rows == n}, length)
            for n in self.n_rows
        }
        return n_rows * self.token_s + _on_line(times, n_rows)

    def total_tokens_per_s(
        self, n_clients: int, n_prompt: int | None = None, n_new: int | None = None
    ) -> float:
        """Predict the tokens of all answers, while each client sends one request after the other.

        Prompts are read between the steps, and the texts wait for that.

        Args:
            n_clients: Number of clients.
            n_prompt: Tokens of each prompt. None: typical.
            n_new: Tokens of each answer. None: typical.
        """
        n_prompt, n_new = n_prompt or self.n_prompt, n_new or self.n_new
        n_rows = min(n_clients, self.n_fit)
        steps_s = (n_new - 1) * self.step_s(n_rows, n_prompt + n_new / 2)
        return n_rows * n_new / (n_rows * self.first_token_s(n_prompt) + steps_s)


def _on_line(times: Mapping[int, float], x: float | int) -> float:
    """The time at x, on the line through the two measured ones that are next to it."""
    if len(times) == 1:
        return next(iter(times.values()))
    places = sorted(times)
    i = max(1, min(bisect_left(places, x), len(places) - 1))
    left, right = places[i - 1], places[i]
    share = (x - left) / (right - left)
    return times[left] + share * (times[right] - times[left])


def cache_limit_bytes(engine: Engine) -> int:
    """Half of the memory that is free: the rest is for activations and other programs."""
    return free_memory_bytes(engine.decoder.device) // 2


def make_plan(engine: Engine, *, n_prompt: int = 256, n_new: int = 256) -> Plan:
    """Measure an idle engine for requests of one size. It takes a few seconds.

    Args:
        engine: The engine, with a limit of its memory.
        n_prompt: Tokens of a prompt; at most half of the context is used.
        n_new: Tokens of an answer; at most half of the context is used.

    Raises:
        UserError: Not one request of this size fits in the memory.
    """
    began_at = time.perf_counter()
    decoder = engine.decoder
    half = max(1, decoder.config.context_length // 2)
    n_prompt, n_new = min(n_prompt, half), min(n_new, half)
    request_bytes = decoder.row_bytes(n_prompt + n_new)
    limit = engine.max_cache_bytes
    cache_bytes = cache_limit_bytes(engine) if limit is None else limit
    n_fit = min(fitting(engine, [n_prompt + n_new] * engine.max_rows), cache_bytes // request_bytes)
    if n_fit == 0:
        raise UserError(
            f"A request of {n_prompt:,} + {n_new:,} tokens needs {request_bytes / 1e6:,.1f} MB for "
            f"keys and values, and there are {cache_bytes / 1e6:,.1f} MB. More memory is expected."
        )
    short = min(_SHORT, n_prompt)
    reads = {n: _read_s(engine, n) for n in sorted({short, n_prompt})}
    rows = sorted({n for n in _ROWS if n < n_fit} | {n_fit})
    lengths = sorted({short, n_prompt + n_new // 2})
    steps = tuple(StepTime(n, T, _step_s(decoder, n, T)) for n in rows for T in lengths)
    decoder.trim()
    return Plan(
        n_prompt=n_prompt,
        n_new=n_new,
        reads=tuple(reads.items()),
        steps=steps,
        request_bytes=request_bytes,
        cache_bytes=cache_bytes,
        n_fit=n_fit,
        probe_s=time.perf_counter() - began_at,
    )


def _read_s(engine: Engine, n_prompt: int) -> float:
    """Read a prompt in parts as the engine does, and draw a token."""
    decoder, n = engine.decoder, min(n_prompt, engine.prefill_chunk)
    sampler = _sampler()

    def part(row: Row, length: int) -> float:
        began_at = time.perf_counter()
        logits = decoder.read([1] * length, row)
        sampler.draw(logits[-1], 1)
        return time.perf_counter() - began_at

    part(decoder.new_row(n), n)  # the first one makes buffers
    first_s = part(decoder.new_row(n), n)
    if first_s * n_prompt / n > _READ_BUDGET_S:  # a large model
        return first_s * n_prompt / n

    def read() -> None:
        row = decoder.new_row(n_prompt)
        while row.length < n_prompt:
            part(row, min(n, n_prompt - row.length))

    return _median_s(read, least=1)


def _step_s(decoder: Decoder, n_rows: int, length: int) -> float:
    """Time of a step with rows of this length, with the draws."""
    length = min(length, decoder.config.context_length - 1)
    decoder.make_room([length + 1] * n_rows)
    rows = [decoder.new_row(length + 1) for _ in range(n_rows)]
    # As texts that joined at different steps, which takes longer than equal lengths.
    lengths = [max(1, length - i % 8) for i in range(n_rows)]
    for row, n in zip(rows, lengths, strict=True):
        row.advance([1] * n)  # keys and values are zeros, which are as fast as others
    samplers = [_sampler() for _ in rows]

    def step() -> None:
        logits = decoder.step([1] * n_rows, rows)
        for sampler, after in zip(samplers, logits, strict=True):
            sampler.draw(after, 1)
        for row, n in zip(rows, lengths, strict=True):
            del row.ids[n:]  # `truncate` refuses layers that cannot go back; here only time counts

    step()
    return _median_s(step, least=_LEAST_STEPS)


def _median_s(run: Callable[[], object], *, least: int) -> float:
    seconds: list[float] = []
    while len(seconds) < least or (sum(seconds) < _STEP_BUDGET_S and len(seconds) < _MOST_STEPS):
        began_at = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began_at)
    return median(seconds)


def _sampler() -> Sampler:
    return Sampler(Sampling(), [], seed=0)
