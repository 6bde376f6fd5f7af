"""Clients that leave free their rows; a server that stops ends every stream."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tiny_server import CHAT, USER, address, chat_run, send

from groundup.generation.engine import Event
from groundup.serve.http_server import bind
from groundup.serve.serve import Server, open_server

LONG = {"model": "tiny", "messages": USER, "logit_bias": {"70": 100}}


def posted(path: str, body: dict[str, Any], at: tuple[str, int]) -> bytes:
    """A request, as its bytes."""
    host, port = at
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def request(server: Server, body: dict[str, Any]) -> bytes:
    return posted(CHAT, body, address(server))


def wait_until_idle(server: Server, within_s: float = 5.0) -> None:
    give_up_at = time.monotonic() + within_s
    while server.served.worker.counts.n_running + server.served.worker.counts.n_waiting:
        assert time.monotonic() < give_up_at
        time.sleep(0.005)


@pytest.mark.parametrize("n_read", [0, 3])
@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_a_client_that_leaves_frees_its_rows(
    server: Server, n_read: int, is_stream: bool, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first token, in the middle, and in an answer that is not streamed."""
    worker = server.served.worker
    wait_until_idle(server)
    step, seen = worker.engine.step, []
    begun = worker.counts.n_new_tokens

    def slow_step() -> Any:
        seen.append(worker.engine.n_running)
        time.sleep(0.01)
        return step()

    monkeypatch.setattr(worker.engine, "step", slow_step)
    with closing(socket.create_connection(address(server))) as client:
        client.sendall(request(server, {**LONG, "stream": is_stream, "n": n}))
        if is_stream and n_read:
            received = b""
            while received.count(b"data: ") < n_read:
                received += client.recv(10_000)
        else:
            while worker.counts.n_running < n:
                time.sleep(0.002)
            if n_read:
                while worker.counts.n_new_tokens < begun + n_read:
                    time.sleep(0.002)
    left_at = len(seen)
    wait_until_idle(server)
    # One step may begin before the loop sees that the client has left; the next ends the texts.
    assert len(seen) - left_at <= 2
    assert worker.counts.n_new_tokens - begun < 30 * n
    assert send(server, "/health", None, method="GET")[0] == 200


def test_the_time_of_an_answer_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends as an answer that was cut off, with what was generated."""
    from tiny_server import serving

    with serving(chat_run(tmp_path / "tiny"), timeout_s=0.2) as server:
        engine = server.served.worker.engine
        step = engine.step

        def slow_step() -> list[Event]:
            time.sleep(0.02)
            return step()

        monkeypatch.setattr(engine, "step", slow_step)
        status, _, body = send(server, CHAT, json.dumps(LONG))
        (choice,) = json.loads(body)["choices"]
        assert (status, choice["finish_reason"]) == (200, "length")
        assert 0 < json.loads(body)["usage"]["completion_tokens"] < 50


def test_a_busy_server_says_when_to_come_back(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from groundup.serve.admission import Busy

    def check(*_: Any, **__: Any) -> None:
        raise Busy("The server is full.", retry_after_s=7)

    monkeypatch.setattr(server.served.worker.admission, "check", check)
    for prompts in ("a", ["a", "b"]):
        body = {"model": "tiny", "prompt": prompts, "stream": True}
        status, headers, answer = send(server, "/v1/completions", json.dumps(body))
        assert (status, headers["retry-after"]) == (429, "7")
        assert json.loads(answer)["error"]["type"] == "rate_limit_error"


def test_a_port_that_is_taken(server: Server, tmp_path: Path) -> None:
    from groundup.base.errors import UserError

    _, port = address(server)
    with pytest.raises(UserError, match="taken by a groundup server of the model tiny") as info:
        open_server(chat_run(tmp_path / "other"), port=port)
    assert info.value.settings == {"port": port + 1}
    with closing(bind("127.0.0.1", 0)) as other:
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(UserError, match="taken by another program"):
            bind("127.0.0.1", taken)
        other.accept()

        def greet() -> None:
            other.accept()[0].sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        threading.Thread(target=greet).start()
        with pytest.raises(UserError, match="taken by another program"):
            bind("127.0.0.1", taken)
    with pytest.raises(UserError, match="no address of this machine"):
        bind("203.0.113.7", 0)


def test_a_model_that_is_deleted_is_served_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from tiny_server import serving

    run = chat_run(tmp_path / "tiny")
    with serving(run) as server:
        assert server.served.gone() is None
        weights = run / "checkpoints" / "step-000000"
        for file in weights.iterdir():
            file.unlink()
        asyncio.run(server._http._check_model())
        asyncio.run(server._http._check_model())
        (record,) = [r for r in caplog.records if r.name == "groundup.serve.http_server"]
        assert "was deleted. The server goes on" in record.getMessage()
        (weights / "model.json").write_text('{"weights": {"model.safetensors": "0"}}')
        assert server.served.gone() == "was replaced"
        assert send(server, CHAT, json.dumps({**LONG, "max_tokens": 2}))[0] == 200


# The steps of the engine take a given time.
SCRIPT = """
import os, sys, time
from groundup.serve import inspect
from groundup.serve.serve import open_server
server = open_server(sys.argv[1], port=int(sys.argv[2]))
engine = server.served.worker.engine
step = engine.step
engine.step = lambda: (time.sleep(float(sys.argv[3])), step())[1]
inspect.look = lambda *_: time.sleep(60)
print("ready", flush=True)
try:
    server.run()
except KeyboardInterrupt:
    os._exit(130)
print("stopped", flush=True)
os._exit(0)  # as the command line does; Python needs a while to end torch
"""


@contextmanager
def process_of_server(
    tmp_path: Path, step_s: float
) -> Iterator[tuple[subprocess.Popen[str], tuple[str, int]]]:
    """A server in a process of its own, and its address."""
    with closing(bind("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SCRIPT, str(chat_run(tmp_path / "tiny")), str(port)]
    process = subprocess.Popen(
        [*command, str(step_s)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        yield process, ("127.0.0.1", port)
    finally:
        process.kill()
        process.wait()


def asking(at: tuple[str, int], path: str, body: dict[str, Any]) -> socket.socket:
    """Connect, and send a request."""
    client = socket.create_connection(at, timeout=10)
    client.sendall(posted(path, body, at))
    return client


def assert_a_second_one_ends_it(process: subprocess.Popen[str]) -> None:
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=2)
    assert process.returncode == 130


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize(("step_s", "is_twice"), [(0.1, False), (30.0, False), (30.0, True)])
def test_ctrl_c_ends_open_streams_with_a_last_chunk(
    tmp_path: Path, step_s: float, is_twice: bool
) -> None:
    """Four clients: two read their streams, one waits for its first token, one for all."""
    with process_of_server(tmp_path, step_s) as (process, at):
        bodies = ({**LONG, "stream": is_stream} for is_stream in (True, True, True, False))
        clients = [asking(at, CHAT, body) for body in bodies]
        time.sleep(1.0)
        began_at = time.monotonic()
        process.send_signal(signal.SIGINT)
        if is_twice:
            assert_a_second_one_ends_it(process)
            return
        answers = [read_all(client) for client in clients]
        assert time.monotonic() - began_at < 3.0
        process.wait(timeout=3)
        for answer in answers[:3]:
            if step_s < 1:
                assert answer.startswith(b"HTTP/1.1 200")
                assert b"data: [DONE]" in answer
            assert b"The server is stopping" in answer
        assert answers[3].startswith(b"HTTP/1.1 503")
        assert process.stdout is not None
        assert process.stdout.read() == "stopped\n"
        assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("is_twice", [False, True])
def test_ctrl_c_does_not_wait_for_a_look_inside(tmp_path: Path, is_twice: bool) -> None:
    with process_of_server(tmp_path, 0) as (process, at):
        body = {"ids": [1], "token": 1}
        clients = [asking(at, "/page/look", body) for _ in range(2)]  # one is computed, one waits
        time.sleep(0.5)
        began_at = time.monotonic()
        process.send_signal(signal.SIGINT)
        if is_twice:
            assert_a_second_one_ends_it(process)
            return
        for client in clients:
            answer = read_all(client)
            assert answer.startswith(b"HTTP/1.1 503")
            assert b"The server is stopping" in answer
        process.wait(timeout=3)
        assert time.monotonic() - began_at < 3.0
        assert process.stdout is not None
        assert process.stdout.read() == "stopped\n"


def test_a_server_stops_during_a_look_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiny_server import serving

    from groundup.serve import inspect

    has_begun, go_on = threading.Event(), threading.Event()

    def slow(*_: Any) -> None:
        has_begun.set()
        go_on.wait(20)

    monkeypatch.setattr(inspect, "look", slow)
    with ThreadPoolExecutor() as pool:
        try:
            with serving(chat_run(tmp_path / "tiny")) as server:
                asked = pool.submit(send, server, "/page/look", '{"ids": [1], "token": 1}')
                assert has_begun.wait(5)
                began_at = time.monotonic()
            assert time.monotonic() - began_at < 3.0
            status, _, answer = asked.result()
        finally:
            go_on.set()
    assert (status, json.loads(answer)["error"]["code"]) == (503, "unavailable")


def read_all(client: socket.socket) -> bytes:
    with closing(client):
        return b"".join(iter(lambda: client.recv(100_000), b""))
