"""The load test itself: it notices answers that are lost, cut off, changed or refused."""

import asyncio
import json
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from groundup.base.errors import UserError
from groundup.cli.serve_view import show_load_test, show_plan
from groundup.serve.load_test import Load, LoadTest, load_test, random_prompts
from groundup.serve.plan import Plan, StepTime
from groundup.serve.run_apart import run_apart
from groundup.serve.sse_client import Address, RefusedError


class Faulty:
    """A server that treats the n-th completion of a prompt as its list of faults says."""

    def __init__(self, faults: dict[str, list[str]], n_running: int) -> None:
        self.faults, self.n_running = faults, n_running
        self.n_requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"GET /metrics" in head:
            text = b"groundup_running_texts %d.0\n" % self.n_running
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
        elif b"GET" in head:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        else:
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            prompt = json.loads(await reader.readexactly(length))["prompt"]
            self.n_requests += 1
            faults = self.faults.get(prompt, [])
            async for part in self.answer(prompt, faults.pop(0) if faults else ""):
                writer.write(part)
                await writer.drain()
        writer.close()

    async def answer(self, prompt: str, fault: str) -> AsyncIterator[bytes]:
        if fault == "busy":
            yield b"HTTP/1.1 429 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"
            return
        if fault == "wrong":
            yield b"HTTP/1.1 400 Bad\r\nContent-Length: 4\r\n\r\nno n"
            return
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        texts = {"changed": "changed", "short": "shor"}
        text = texts.get(fault, f"answer to {prompt} \N{GRINNING FACE}")
        reason = None if fault == "no reason" else "length"
        events: list[Any] = [{"choices": [{"text": c, "finish_reason": None}]} for c in text]
        if fault == "error":
            events.append({"error": {"message": "out of memory"}})
        events.append({"choices": [{"text": "", "finish_reason": reason}]})
        events.append(
            {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": len(text)}}
        )
        stream = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        raw = stream.encode()
        raw = raw[: len(raw) // 2] if fault == "cut" else raw
        for start in range(0, len(raw), 37):  # the parts end anywhere
            part = raw[start : start + 37]
            yield b"%x\r\n%s\r\n" % (len(part), part)
        if fault != "cut":
            yield b"0\r\n\r\n"

    @contextmanager
    def running(self) -> Iterator[str]:
        loop = asyncio.new_event_loop()
        server = loop.run_until_complete(asyncio.start_server(self.serve, "127.0.0.1", 0))
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            server.close()
            loop.close()


def run(faults: dict[str, list[str]], n_running: int = 0, **settings: Any) -> tuple[LoadTest, int]:
    server = Faulty(faults, n_running)
    load = Load(**{"n_clients": 2, "n_requests": 6, "n_different": 2, "n_new": 5, **settings})
    with server.running() as url:
        return load_test(url, "any", ["one", "two"], load), server.n_requests


def test_a_good_server_loses_nothing() -> None:
    result, n_requests = run({})
    assert (result.n_requests, result.n_complete) == (12, 12)
    assert (result.n_lost, result.n_changed, result.n_refused, result.n_left) == (0, 0, 0, 0)
    assert n_requests == 14, "and each of two alone"
    assert result.n_tokens == 12 * len("answer to one x")
    assert 0 < result.next_token_p50_s <= result.next_token_p95_s < result.elapsed_s
    assert result.n_running_after == 0
    assert result.problems == ()


def test_each_fault_is_counted() -> None:
    # The first answer of each prompt is that of the single run.
    result, n_requests = run(
        {"one": ["", "cut", "error", "busy"], "two": ["", "changed", "no reason"]}
    )
    assert (result.n_lost, result.n_changed, result.n_refused) == (3, 1, 1)
    assert (result.n_requests, result.n_complete, n_requests) == (12, 9, 15)
    said = " ".join(result.problems)
    for words in ("ended early", "out of memory", "no finish reason", "instead of"):
        assert words in said


@pytest.mark.parametrize("faults", [["", "short"], ["short"]])
def test_an_answer_that_a_limit_has_ended_is_not_called_changed(faults: list[str]) -> None:
    result, _ = run({"one": list(faults)})
    assert (result.n_lost, result.n_changed) == (0, 0)
    assert result.n_cut + result.n_complete == result.n_requests == 12
    assert (result.n_cut == 1) == (len(faults) == 2), "of a request that is cut alone, all are"
    assert "request 0: 4 of 5 tokens, then the time limit of the server" in result.problems[0]


def test_clients_that_leave_are_not_lost() -> None:
    result, _ = run({}, leave_every=2, n_clients=6)
    assert result.n_left > 5
    assert result.n_left + result.n_complete == result.n_requests == 36
    assert result.n_lost == 0


def test_a_request_that_is_refused_ends_the_test() -> None:
    with pytest.raises(RefusedError, match="400: no n"):
        run({"one": ["wrong"]})
    with pytest.raises(UserError, match="http://127"):
        Address("https://example.org")
    with pytest.raises(UserError, match="n_clients is 0"):
        Load(n_clients=0)


def test_it_runs_where_an_event_loop_runs() -> None:
    async def cell(url: str) -> LoadTest:
        load = Load(n_clients=2, n_requests=3, n_new=5, n_different=1)
        return load_test(url, "any", ["one"], load)

    with Faulty({}, 0).running() as url:
        assert asyncio.run(cell(url)).n_complete == 6


def test_an_interrupt_ends_it() -> None:
    ended = threading.Event()

    async def work() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.set()
            raise

    with pytest.raises(KeyboardInterrupt):
        run_apart(work())
    assert ended.wait(20)


def test_prompts_are_the_same_each_time() -> None:
    prompts = random_prompts(20, 7, shortest=2, longest=4)
    assert prompts == random_prompts(20, 7, shortest=2, longest=4)
    assert {len(prompt) for prompt in prompts} == {2, 3, 4}
    assert {i for prompt in prompts for i in prompt} == set(range(7))


def test_tables_fit_into_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    plan = Plan(
        n_prompt=256,
        n_new=256,
        reads=((16, 0.02), (256, 0.2074)),
        steps=(StepTime(1, 384, 0.0101), StepTime(16, 384, 0.05)),
        request_bytes=24_330_240,
        cache_bytes=4_000_000_000,
        n_fit=16,
        probe_s=2.0,
    )
    show_plan(plan)
    result, _ = run({"one": ["", "changed", "cut"]}, n_running=2, n_clients=16)
    show_load_test(result, plan)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for words in ("207 ms", "99 tokens/s", "20.0 tokens/s each", "24.3 MB", "of 16 clients"):
        assert words in shown
    assert "still generates 2 texts" in shown
    assert "instead of" in shown
    assert "No answer was lost" not in shown
