"""The load test of a server: many clients at once, whose answers are compared with single ones."""

import asyncio
import json
import math
import random
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from groundup.base.arguments import whole_number
from groundup.base.sequences import n_common
from groundup.serve.run_apart import run_apart
from groundup.serve.sse_client import Address, RefusedError

_PATH = "/v1/completions"
_LONGEST_START_S = 5.0
_LONGEST_RETRY_S = 2.0
_N_PROBLEMS, _SHOWN = 5, 24
_RUNNING = re.compile(r"^groundup_running_texts (\S+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the clients do.

    Raises:
        UserError: A number is below 1.
    """

    n_clients: int = 16
    """Number of clients at once. Each sends one request after the other."""
    n_requests: int = 3
    """Number of requests of each client."""
    duration_s: float | int | None = None
    """Send requests for this time, in seconds. None: `n_requests` for each client."""
    n_new: int = 64
    """Number of new tokens of each answer."""
    n_different: int = 8
    """Number of different requests. Each is sent once alone before the test."""
    leave_every: int | None = None
    """In one of this many requests the client leaves before the answer is complete. None: never."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the requests."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("n_clients", "n_requests", "n_new", "n_different"):
            whole_number(name, getattr(self, name))


@dataclass(frozen=True)
class LoadTest:
    """What happened."""

    n_clients: int
    n_prompt: int
    """Tokens of a prompt on average."""
    n_new: int
    """Tokens of an answer on average."""
    n_requests: int
    """Requests that were sent."""
    n_complete: int
    """Answers that were complete."""
    n_left: int
    """Requests whose client left early."""
    n_lost: int
    """Requests that failed."""
    n_cut: int
    """Answers that the time limit of the server or the end of the context made shorter than asked
    for, beside others or alone."""
    n_changed: int
    """Complete answers that differ from those of the same requests alone."""
    n_refused: int
    """How often the server was busy. The client sent these requests again."""
    n_tokens: int
    """Tokens of the complete answers."""
    elapsed_s: float
    tokens_per_s: float
    """Tokens of the complete answers of all clients."""
    first_token_p50_s: float
    """Median of the time to the first text."""
    first_token_p95_s: float
    next_token_p50_s: float
    """Median of the time from one text to the next."""
    next_token_p95_s: float
    single_tokens_per_s: float
    """Tokens of the requests that were sent alone."""
    n_running_after: int | None
    """Texts that the server generated a second after the end. None: it does not say."""
    problems: tuple[str, ...]
    """The first requests that failed or differ."""


@dataclass(frozen=True)
class _Answer:
    text: str
    reason: str
    n_prompt: int
    n_tokens: int

    def is_cut(self, n_asked: int) -> bool:
        """Whether a limit other than the number of tokens ended it."""
        return self.reason == "length" and self.n_tokens < n_asked


class _Times:
    """What the clients note."""

    def __init__(self) -> None:
        self.first_s: list[float] = []
        self.next_s: list[float] = []
        self.problems: list[str] = []
        self.n_requests = self.n_complete = self.n_left = 0
        self.n_lost = self.n_cut = self.n_changed = self.n_refused = self.n_tokens = 0


def random_prompts(
    n_prompts: int, vocab_size: int, *, shortest: int = 8, longest: int = 64, seed: int = 0
) -> list[list[int]]:
    """Make prompts of random token ids, of different lengths."""
    draw = random.Random(seed)
    lengths = [draw.randint(shortest, longest) for _ in range(n_prompts)]
    return [[draw.randrange(vocab_size) for _ in range(length)] for length in lengths]


def load_test(
    url: str,
    model: str,
    prompts: Sequence[Sequence[int] | str],
    load: Load | None = None,
    *,
    api_key: str | None = None,
) -> LoadTest:
    """Send requests of many clients at once to a server, and compare each answer.

    First each of the different requests is sent alone. Then all clients send them at once, each
    its own order, with the same seeds: the answers are expected to be the same. Numbers that are
    not deterministic may differ in the last bits, which can change an answer.

    Args:
        url: Address of the server, such as `http://127.0.0.1:8000`.
        model: Name of the model.
        prompts: Prompts, as text or token ids. They are used in turn.
        load: What the clients do. None: the defaults.
        api_key: Key that the server expects. None: none.

    Raises:
        UserError: The address is not one of HTTP.
        RefusedError: The server refuses a single request.
        OSError: The server cannot be reached.
    """
    load = load or Load()
    bodies = [
        {
            "model": model,
            "prompt": prompts[i % len(prompts)],
            "max_tokens": load.n_new,
            "seed": i,
            "stream": True,
            "stream_options": {"include_usage": True},
            **load.settings,
        }
        for i in range(load.n_different)
    ]
    return run_apart(_test(Address(url, api_key), bodies, load))


async def _test(address: Address, bodies: Sequence[dict[str, Any]], load: Load) -> LoadTest:
    await _connected(address)
    began_at = time.perf_counter()
    alone = [await _answer(address, body, _Times()) for body in bodies]
    single_s = time.perf_counter() - began_at
    times = _Times()
    began_at = time.perf_counter()
    end_at = None if load.duration_s is None else began_at + load.duration_s
    await asyncio.gather(
        *(_client(i, address, bodies, alone, load, end_at, times) for i in range(load.n_clients))
    )
    elapsed_s = time.perf_counter() - began_at
    return LoadTest(
        n_clients=load.n_clients,
        n_prompt=round(fmean(answer.n_prompt for answer in alone)),
        n_new=round(fmean(answer.n_tokens for answer in alone)),
        n_requests=times.n_requests,
        n_complete=times.n_complete,
        n_left=times.n_left,
        n_lost=times.n_lost,
        n_cut=times.n_cut,
        n_changed=times.n_changed,
        n_refused=times.n_refused,
        n_tokens=times.n_tokens,
        elapsed_s=elapsed_s,
        tokens_per_s=times.n_tokens / elapsed_s,
        first_token_p50_s=quantile(times.first_s, 0.5),
        first_token_p95_s=quantile(times.first_s, 0.95),
        next_token_p50_s=quantile(times.next_s, 0.5),
        next_token_p95_s=quantile(times.next_s, 0.95),
        single_tokens_per_s=sum(answer.n_tokens for answer in alone) / single_s,
        n_running_after=await _running(address),
        problems=tuple(dict.fromkeys(times.problems))[:_N_PROBLEMS],
    )


async def _connected(address: Address) -> None:
    """Wait until the server listens; it may have been started just now."""
    give_up_at = time.monotonic() + _LONGEST_START_S
    while True:
        try:
            await address.get("/health")
        except ConnectionError:
            if time.monotonic() > give_up_at:
                raise
            await asyncio.sleep(0.05)
        else:
            return


async def _client(
    number: int,
    address: Address,
    bodies: Sequence[dict[str, Any]],
    alone: Sequence[_Answer],
    load: Load,
    end_at: float | None,
    times: _Times,
) -> None:
    draw = random.Random(number)
    n_sent = 0
    while n_sent < load.n_requests if end_at is None else time.perf_counter() < end_at:
        case = draw.randrange(len(bodies))
        n_sent += 1
        times.n_requests += 1
        try:
            if load.leave_every is not None and (number + n_sent) % load.leave_every == 0:
                await _leave(address, bodies[case], draw.randrange(load.n_new))
                times.n_left += 1
                continue
            answer = await _answer(address, bodies[case], times)
        except (OSError, RefusedError, KeyError, ValueError) as error:
            times.n_lost += 1
            times.problems.append(f"request {case}: {type(error).__name__}: {error}")
            continue
        n_asked = bodies[case]["max_tokens"]
        cut = next((each for each in (answer, alone[case]) if each.is_cut(n_asked)), None)
        if cut is not None:
            times.n_cut += 1
            times.problems.append(
                f"request {case}: {cut.n_tokens} of {n_asked} tokens, then the time limit of the "
                "server or the end of the context"
            )
            continue
        times.n_complete += 1
        times.n_tokens += answer.n_tokens
        if answer != alone[case]:
            times.n_changed += 1
            times.problems.append(f"request {case}: {_difference(answer, alone[case])}")


def _difference(answer: _Answer, alone: _Answer) -> str:
    """Where two answers begin to differ, in a sentence."""
    start = n_common(answer.text, alone.text)
    found, expected = (repr(each.text[start : start + _SHOWN]) for each in (answer, alone))
    return (
        f"from character {start} on, {found} instead of {expected} ({answer.n_tokens} tokens, "
        f"{answer.reason}; alone {alone.n_tokens}, {alone.reason})"
    )


async def _answer(address: Address, body: Mapping[str, Any], times: _Times) -> _Answer:
    """Send a request, again while the server is busy, and read its answer."""
    while True:
        try:
            return await _once(address, body, times)
        except RefusedError as error:
            if error.status != 429:
                raise
            times.n_refused += 1
            await asyncio.sleep(min(error.retry_after_s or 1.0, _LONGEST_RETRY_S))


async def _once(address: Address, body: Mapping[str, Any], times: _Times) -> _Answer:
    text, reason, n_prompt, n_tokens = "", "", 0, 0
    began_at = time.perf_counter()
    before: float | None = None
    async with aclosing(address.stream(_PATH, body)) as events:
        async for event in events:
            if "error" in event:
                raise RefusedError(200, json.dumps(event), None)
            if event.get("usage"):
                n_prompt = event["usage"]["prompt_tokens"]
                n_tokens = event["usage"]["completion_tokens"]
            for choice in event["choices"]:
                text += choice["text"]
                reason = choice["finish_reason"] or reason
                if choice["text"]:
                    now = time.perf_counter()
                    if before is None:
                        times.first_s.append(now - began_at)
                    else:
                        times.next_s.append(now - before)
                    before = now
    if not reason:
        raise ValueError("The answer has no finish reason.")
    return _Answer(text, reason, n_prompt, n_tokens)


async def _leave(address: Address, body: Mapping[str, Any], n_read: int) -> None:
    """Send a request, and close the connection after some events or before the first one."""
    with suppress(RefusedError):
        async with aclosing(address.stream(_PATH, body)) as events:
            if n_read == 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(anext(events), 0.01)
                return
            async for _ in events:
                n_read -= 1
                if n_read <= 0:
                    return


async def _running(address: Address) -> int | None:
    """How many texts the server still generates after a second, or before if it is none."""
    for _ in range(20):
        try:
            found = _RUNNING.search(await address.get("/metrics"))
        except RefusedError:
            return None
        n_running = None if found is None else round(float(found[1]))
        if not n_running:
            break
        await asyncio.sleep(0.05)
    return n_running


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of the values does not exceed; NaN without values.

    >>> quantile([3.0, 1.0, 2.0], 0.5), quantile([3.0, 1.0, 2.0], 0.95)
    (2.0, 3.0)
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan
