"""The worker: clients that stay, leave and are cut off, and an engine that fails."""

import asyncio
import gc
import time
import weakref
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from decoder_models import CONFIGS, lively, text

from groundup.base.errors import UserError
from groundup.generation.decoder import Decoder
from groundup.generation.engine import Engine, Event
from groundup.generation.generate import generate
from groundup.generation.request import Request, Sampling
from groundup.serve.admission import Admission, Busy, Limits
from groundup.serve.worker import UnavailableError, Worker

DECODER = Decoder(lively(CONFIGS["ours"]))


@contextmanager
def running(**settings: Any) -> Iterator[Worker]:
    worker = Worker(Engine(DECODER, **settings))
    worker.start()
    try:
        yield worker
    finally:
        worker.stop(0)


def request(n_new: int = 20, seed: int = 0, **settings: Any) -> Request:
    return Request(
        ids=text(6, seed), max_new_tokens=n_new, sampling=Sampling(seed=seed), **settings
    )


async def events_of(worker: Worker, asked: Request) -> list[Event]:
    return [event async for event in worker.generate(asked)]


def ids_of(events: list[Event], index: int = 0) -> list[int]:
    return [token.id for event in events if event.index == index for token in event.tokens]


def test_many_clients_have_the_answers_that_they_have_alone() -> None:
    async def main() -> list[list[Event]]:
        return await asyncio.gather(
            *(events_of(worker, request(10 + seed, seed)) for seed in range(12))
        )

    with running(max_rows=4) as worker:
        answers = asyncio.run(main())
        counts = worker.counts
    for seed, events in enumerate(answers):
        assert ids_of(events) == generate(DECODER, text(6, seed), 10 + seed, seed=seed)
        assert [event.finish_reason is None for event in events] == [True] * (9 + seed) + [False]
    assert counts.n_new_tokens == sum(10 + seed for seed in range(12))
    assert (counts.n_running, counts.n_requests, counts.n_prompt_tokens) == (0, 12, 72)


def test_several_texts_of_a_request_end_at_any_time() -> None:
    stop = generate(DECODER, text(6), 20, seed=1)[3]
    for stop_ids in ([stop], []):  # without a stop id all end at the same step
        with running() as worker:
            events = asyncio.run(events_of(worker, request(20, n=3, stop_ids=stop_ids)))
        assert len([event for event in events if event.finish_reason]) == 3
        assert not worker._open
        for index in range(3):
            alone = generate(DECODER, text(6), 20, seed=index, stop_ids=stop_ids)
            assert ids_of(events, index) == alone


class Watched(Engine):
    """Takes its time, and notes the texts that a step leaves although they were cancelled."""

    late = 0

    def step(self) -> list[Event]:
        time.sleep(0.002)  # so that no text ends before the test has left
        cancelled = [text for text in self._running if text[0].ended_as]
        events = super().step()
        self.late += sum(text in self._running for text in cancelled)
        return events


@pytest.mark.parametrize("n_read", [0, 3])
def test_a_client_that_leaves_frees_its_row_at_the_next_step(n_read: int) -> None:
    async def leave(answer: AsyncGenerator[Event]) -> None:
        async with aclosing(answer):
            for _ in range(n_read):
                await anext(answer)
            if not n_read:  # its task is cancelled while it waits for the first event
                task = asyncio.ensure_future(anext(answer))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    async def main() -> None:
        staying = asyncio.create_task(events_of(worker, request(41)))
        await leave(cast(AsyncGenerator[Event], worker.generate(request(41, 1))))
        left = [handle for handle in worker._open if handle.request.sampling.seed == 1]
        assert [handle.ended_as for handle in left] == ["cancelled"]
        assert len(await staying) == 41
        assert not worker._open
        assert (worker.counts.n_cancelled, worker.counts.n_requests) == (1, 2)

    engine = Watched(DECODER)
    worker = Worker(engine)
    worker.start()
    asyncio.run(main())
    worker.stop(0)
    assert engine.late == 0
    assert engine.is_idle


def test_a_wrong_request_is_refused_and_the_others_go_on() -> None:
    async def main() -> list[Event]:
        with pytest.raises(UserError, match="prompt has no tokens"):
            await events_of(worker, Request(ids=[], max_new_tokens=2))
        return await events_of(worker, request(2))

    with running() as worker:
        assert len(asyncio.run(main())) == 2


def test_a_request_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, clock = Watched(DECODER, max_rows=1), SimpleNamespace(now_s=0.0)
    worker, step = Worker(engine, admission=Admission(Limits(time_s=0.05))), engine.step

    def step_of_ten_ms() -> list[Event]:
        clock.now_s += 0.01
        return step()

    monkeypatch.setattr(engine, "step", step_of_ten_ms)
    monotonic = SimpleNamespace(monotonic=lambda: clock.now_s)
    monkeypatch.setattr("groundup.serve.worker.time", monotonic)

    async def main() -> list[list[Event]]:
        answers = asyncio.gather(*(events_of(worker, request(41, i)) for i in range(3)))
        await asyncio.sleep(0)  # all of them wait before the first step
        worker.start()
        return await answers

    answers = asyncio.run(main())
    worker.stop(0)
    assert [events[-1].finish_reason for events in answers] == ["length"] * 3
    assert 1 < len(answers[0]) < 41
    assert not ids_of(answers[2]), "it was over while the request waited"
    assert worker.counts.n_late == 3


def test_a_step_that_fails_ends_its_texts_and_the_worker_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: Any) -> None:
        raise MemoryError

    with running() as worker:
        with monkeypatch.context() as patched:
            patched.setattr(Decoder, "step", fails)
            last = asyncio.run(events_of(worker, request()))[-1]
        assert (last.finish_reason, type(last.error)) == ("error", MemoryError)
        assert worker.is_healthy
        assert len(asyncio.run(events_of(worker, request(5)))) == 5
        assert (worker.counts.n_failed, worker.counts.n_cancelled) == (1, 0)


def test_a_worker_keeps_no_request_that_has_ended() -> None:
    async def main() -> None:
        staying = asyncio.create_task(events_of(worker, request(41)))
        await asyncio.sleep(0)
        asked = request(1, 1)
        ended = weakref.ref(asked)
        await events_of(worker, asked)
        del asked
        await asyncio.sleep(0.02)  # the thread has begun another step
        gc.collect()
        assert worker._open
        assert ended() is None
        await staying

    worker = Worker(Watched(DECODER), admission=Admission(Limits(time_s=60)))
    worker.start()
    asyncio.run(main())
    worker.stop(0)


def test_a_busy_server_refuses_a_request_and_says_when_to_come_back() -> None:
    worker = Worker(Watched(DECODER, max_rows=2), admission=Admission(Limits(n_waiting=1)))
    worker.start()

    async def main() -> list[Any]:
        clients = [asyncio.create_task(events_of(worker, request(30, i))) for i in range(5)]
        return await asyncio.gather(*clients, return_exceptions=True)

    answers = asyncio.run(main())
    worker.stop(0)
    assert [isinstance(answer, Busy) for answer in answers] == [False] * 3 + [True] * 2
    assert answers[3].retry_after_s >= 1
    assert worker.counts.n_refused == 2


def test_an_engine_that_fails_ends_all_requests(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> list[Any]:
        clients = [asyncio.create_task(events_of(worker, request(40, i))) for i in range(3)]
        await asyncio.sleep(0.01)

        def fails(*_: Any) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(Engine, "_decode", fails)
        ended = await asyncio.wait_for(asyncio.gather(*clients, return_exceptions=True), 5)
        with pytest.raises(UnavailableError, match=r"ZeroDivisionError at test_worker.py:\d+"):
            await events_of(worker, request())
        return ended

    with running() as worker:
        assert worker.is_healthy
        ended = asyncio.run(main())
        assert not worker.is_healthy
    assert all(isinstance(each, UnavailableError) for each in ended)
    assert "The engine failed: ZeroDivisionError at test_worker.py" in caplog.text
    for said in (caplog.text, *map(str, ended)):
        assert "a bug" not in said, "it may quote a conversation"


def test_stop_ends_open_requests_with_a_last_event() -> None:
    async def main() -> list[list[Event]]:
        clients = [asyncio.create_task(events_of(worker, request(40, i))) for i in range(6)]
        await asyncio.sleep(0.005)
        await asyncio.to_thread(worker.stop, 0)
        with pytest.raises(UnavailableError, match="stopping"):
            await events_of(worker, request())
        return await asyncio.wait_for(asyncio.gather(*clients), 5)

    with running(max_rows=2) as worker:
        answers = asyncio.run(main())
    assert {events[-1].finish_reason for events in answers} <= {"cancelled", "length"}
    assert "cancelled" in [events[-1].finish_reason for events in answers]
