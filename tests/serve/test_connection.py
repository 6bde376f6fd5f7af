"""Connections: how many, how long a client may leave data unread, and errors of their tasks."""

import asyncio
import json
import logging
import socket
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from tiny_server import CHAT, TEXT, USER, address, chat_run, send, serving

from groundup.serve import connection, http_server
from groundup.serve.serve import Server

MANY = {"model": "tiny", "messages": USER, "logit_bias": {"70": 100}, "stream": True, "n": 8,
        "logprobs": True, "top_logprobs": 20}  # fmt: skip


def opened(server: Server) -> int:
    return len(server._http.server_state.connections)


def wait_for(server: Server, n: int, within_s: float) -> None:
    give_up_at = time.monotonic() + within_s
    while opened(server) != n:
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def test_a_client_that_reads_nothing_is_disconnected(tmp_path: Path) -> None:
    with serving(chat_run(tmp_path / "tiny"), timeout_s=1.0) as server:
        server._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        wait_for(server, 0, 5)
        with closing(socket.socket()) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(address(server))
            data = json.dumps(MANY).encode()
            head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            client.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
            wait_for(server, 1, 5)
            wait_for(server, 0, 5)
            assert server.served.worker.counts.n_running == 0


def test_the_number_of_connections_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "_CONNECTIONS_PER_TEXT", 1)
    monkeypatch.setattr(connection, "REQUEST_S", 0.6)
    with serving(chat_run(tmp_path / "tiny"), max_rows=1) as server, ExitStack() as clients:
        wait_for(server, 0, 5)
        for _ in range(65):  # one text is generated, and 64 wait
            clients.enter_context(socket.create_connection(address(server)))
        wait_for(server, 65, 5)
        status, headers, body = send(server, "/health", None, method="GET")
        assert (status, headers["retry-after"]) == (503, "1")
        assert "has 65 connections" in json.loads(body)["error"]["message"]
        wait_for(server, 0, 5)  # they ask nothing
        assert send(server, "/health", None, method="GET")[0] == 200


def test_a_connection_ends_that_does_not_finish_its_next_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REQUEST_S", 0.4)
    with serving(chat_run(tmp_path / "tiny")) as server:
        wait_for(server, 0, 5)
        with closing(socket.create_connection(address(server))) as client:
            client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
            client.sendall(b"GET /health HT")  # which stops the timer of idle connections
            wait_for(server, 0, 5)


def test_a_full_server_answers_429(tmp_path: Path) -> None:
    with serving(chat_run(tmp_path / "tiny"), max_rows=1) as server:
        worker = server.served.worker
        body = {"model": "tiny", "prompt": "the", "max_tokens": 250, "logit_bias": {"70": 100}}
        with closing(socket.create_connection(address(server))) as client:
            data = json.dumps({**body, "n": 65}).encode()  # one is generated, and 64 wait
            head = f"POST {TEXT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            client.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
            while worker.counts.n_waiting < 64:
                time.sleep(0.002)
            status, headers, answer = send(server, TEXT, json.dumps(body))
        error = json.loads(answer)["error"]
        assert (status, error["code"]) == (429, "rate_limit_exceeded")
        assert int(headers["retry-after"]) >= 1
        assert "and 64 wait" in error["message"]
        assert worker.counts.n_refused == 1


def test_errors_of_tasks_are_logged_without_their_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails() -> None:
        raise ValueError("my secret")

    async def main() -> None:
        await server._http.startup([])
        asyncio.get_running_loop().create_task(fails())
        await asyncio.sleep(0.05)

    with serving(chat_run(tmp_path / "tiny")) as server:
        pass
    asyncio.run(main())
    assert "A task failed: ValueError at test_connection.py" in caplog.text
    assert "my secret" not in caplog.text
    assert not logging.getLogger("asyncio").isEnabledFor(logging.ERROR)
