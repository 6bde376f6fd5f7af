"""The plan of a server: what it will do on this machine, measured before it takes requests."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from groundup.base.errors import UserError
from groundup.base.machine import free_memory_bytes
from groundup.generation.decoder import Decoder, Row
from groundup.generation.engine import Engine
from groundup.generation.request import Sampling
from groundup.generation.sampler import Sampler
from groundup.serve.admission import fitting

_STEP_BUDGET_S = 0.8
_LEAST_STEPS, _MOST_STEPS = 3, 30
_ROWS = (1, 4, 16, 64)


@dataclass(frozen=True)
class DecodeSpeed:
    """How fast texts are generated together."""

    n_rows: int
    step_s: float
    """Time of a step, which adds one token to each text."""

    @property
    def tokens_per_s(self) -> float:
        """Tokens of all texts."""
        return self.n_rows / self.step_s


@dataclass(frozen=True)
class Plan:
    """What a server will do with requests of one size."""

    n_prompt: int
    """Tokens of a prompt."""
    n_new: int
    """Tokens of an answer."""
    prefill_tokens_per_s: float
    """Tokens of prompts that are read, while nothing else is done."""
    first_token_s: float
    """Time to the first token on an idle server."""
    decode: tuple[DecodeSpeed, ...]
    """Speeds for 1 and several texts at once."""
    request_bytes: int
    """Memory of the keys and values of a request."""
    cache_bytes: int
    """Memory for the keys and values of all requests."""
    n_fit: int
    """Requests that are generated at once."""
    probe_s: float
    """Time that the measurement took."""

    def total_tokens_per_s(self, n_clients: int) -> float:
        """Predict the tokens of all answers, while each client sends one request after the other.

        Prompts are read between the steps, for which the texts wait.
        """
        n_rows = min(n_clients, self.n_fit)
        steps_s = (self.n_new - 1) * self.step_s(n_rows)
        return n_rows * self.n_new / (n_rows * self.first_token_s + steps_s)

    def step_s(self, n_rows: int) -> float:
        """Predict the time of a step, between the measured numbers of texts on a line."""
        below = max((s for s in self.decode if s.n_rows <= n_rows), key=lambda s: s.n_rows)
        above = min(
            (s for s in self.decode if s.n_rows >= n_rows), key=lambda s: s.n_rows, default=below
        )
        if above.n_rows == below.n_rows:
            return below.step_s * max(1.0, n_rows / below.n_rows)
        share = (n_rows - below.n_rows) / (above.n_rows - below.n_rows)
        return below.step_s + share * (above.step_s - below.step_s)


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
    cache_bytes = engine.max_cache_bytes or cache_limit_bytes(engine)
    n_fit = min(fitting(engine, [n_prompt + n_new] * engine.max_rows), cache_bytes // request_bytes)
    if n_fit == 0:
        raise UserError(
            f"A request of {n_prompt:,} + {n_new:,} tokens needs {request_bytes / 1e6:,.1f} MB for "
            f"keys and values, and there are {cache_bytes / 1e6:,.1f} MB. More memory is expected."
        )
    first_token_s = _first_token_s(engine, n_prompt)
    numbers = sorted({n for n in _ROWS if n < n_fit} | {n_fit})
    decode = tuple(DecodeSpeed(n, _step_s(decoder, n, n_prompt + n_new // 2)) for n in numbers)
    decoder.trim()
    return Plan(
        n_prompt=n_prompt,
        n_new=n_new,
        prefill_tokens_per_s=n_prompt / first_token_s,
        first_token_s=first_token_s,
        decode=decode,
        request_bytes=request_bytes,
        cache_bytes=cache_bytes,
        n_fit=n_fit,
        probe_s=time.perf_counter() - began_at,
    )


def _first_token_s(engine: Engine, n_prompt: int) -> float:
    """Read a prompt in parts as the engine does, and draw a token."""
    decoder, n = engine.decoder, min(n_prompt, engine.prefill_chunk)
    sampler = _sampler(decoder)

    def part(row: Row, length: int) -> float:
        began_at = time.perf_counter()
        logits = decoder.read([1] * length, row)
        sampler.draw(logits[-1], 1)
        return time.perf_counter() - began_at

    row = decoder.new_row(n_prompt)
    part(row, n)  # the first one makes buffers
    row.truncate(0)
    elapsed_s = part(row, n)
    if elapsed_s * n_prompt / n > 2 * _STEP_BUDGET_S:  # a large model
        return elapsed_s * n_prompt / n
    while row.length < n_prompt:
        elapsed_s += part(row, min(n, n_prompt - row.length))
    return elapsed_s


def _step_s(decoder: Decoder, n_rows: int, length: int) -> float:
    """Time of a step with rows of this length, with the draws."""
    length = min(length, decoder.config.context_length - 1)
    decoder.make_room([length + 1] * n_rows)
    rows = [decoder.new_row(length + 1) for _ in range(n_rows)]
    for row in rows:
        row.advance([1] * length)  # keys and values are zeros, which are as fast as others
    samplers = [_sampler(decoder) for _ in rows]

    def step() -> None:
        logits = decoder.step([1] * n_rows, rows)
        for sampler, after in zip(samplers, logits, strict=True):
            sampler.draw(after, 1)
        for row in rows:
            row.truncate(length)

    step()
    return _median_s(step)


def _median_s(run: Callable[[], object]) -> float:
    seconds: list[float] = []
    while len(seconds) < _LEAST_STEPS or (
        sum(seconds) < _STEP_BUDGET_S and len(seconds) < _MOST_STEPS
    ):
        began_at = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began_at)
    return median(seconds)


def _sampler(decoder: Decoder, prompt: Sequence[int] = ()) -> Sampler:
    return Sampler(Sampling(), prompt, seed=0)
