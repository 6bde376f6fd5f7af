"""Many clients at once over HTTP: nothing is lost or mixed up, and the memory does not grow."""

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from decoder_models import CONFIGS, lively, text
from tiny_server import SIZE, chat_run, serving

from groundup.generation.decoder import Decoder
from groundup.generation.engine import Engine
from groundup.generation.request import Request, Sampling
from groundup.serve.load_test import Load, LoadTest, load_test, random_prompts
from groundup.serve.serve import Server
from groundup.serve.worker import Worker

GROWTH_BYTES = 20e6
"""A server may grow by this much, however long it serves."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(chat_run(tmp_path / "run"), max_rows=64) as found:
        yield found


def loaded(server: Server, **settings: Any) -> LoadTest:
    load = Load(**{"n_clients": 64, "n_new": 48, "n_different": 16, "leave_every": 8, **settings})
    return load_test(server.url, server.served.name, random_prompts(16, SIZE), load)


def check(result: LoadTest, server: Server) -> None:
    assert (result.n_lost, result.n_changed) == (0, 0), result.problems
    assert result.n_complete + result.n_left == result.n_requests
    assert result.n_running_after == 0
    assert server.served.worker.counts.cache_bytes == 0


def test_clients_that_stay_and_leave_have_the_answers_that_they_have_alone(server: Server) -> None:
    result = loaded(server, n_clients=8, n_requests=2, n_new=8, n_different=4)
    check(result, server)
    assert (result.n_requests, result.n_left) == (16, 2)


def serve_for(server: Server, duration_s: float) -> LoadTest:
    """Load a server that is warm; its memory stays what it was.

    In a new process the memory grows by some 25 MB in the first 20 seconds, and then no more.
    """
    loaded(server, duration_s=25)
    process = psutil.Process()
    before = process.memory_info().rss
    result = loaded(server, duration_s=duration_s)
    grown = process.memory_info().rss - before
    check(result, server)
    assert result.n_left > result.n_requests / 16
    assert grown < GROWTH_BYTES, f"{grown / 1e6:.1f} MB"
    return result


@pytest.mark.slow
@pytest.mark.alone
def test_64_clients_for_a_minute(server: Server) -> None:
    result = serve_for(server, duration_s=60)
    assert result.n_complete > 64


@pytest.mark.slow
def test_the_memory_of_2000_requests_is_given_back() -> None:
    worker = Worker(
        Engine(
            Decoder(lively(dataclasses.replace(CONFIGS["ours"], context_length=512))), max_rows=16
        )
    )
    worker.start()
    process = psutil.Process()
    sizes: list[int] = []

    async def client(seed: int) -> None:
        asked = Request(ids=text(288, seed), max_new_tokens=12, sampling=Sampling(seed=seed))
        async for _ in worker.generate(asked):
            pass

    async def main(first: int) -> None:
        queue = iter(range(first, first + 200))
        await asyncio.gather(*(each_of(queue) for _ in range(20)))

    async def each_of(queue: Iterator[int]) -> None:
        for seed in queue:
            await client(seed)

    for first in range(0, 2000, 200):
        asyncio.run(main(first))
        sizes.append(process.memory_info().rss)
    worker.stop(0)
    assert worker.counts.cache_bytes == 0
    assert max(sizes) - sizes[0] < GROWTH_BYTES, sizes
