"""What a token costs beside the engine: its event, JSON and HTTP, measured in the application."""

import asyncio
import json
import socket
import time
from typing import Any

from starlette.types import ASGIApp, Message

from groundup.serve.run_apart import run_apart
from groundup.serve.worker import Worker

_N_TOKENS = 24


def token_cost_s(
    app: ASGIApp,
    model: str,
    worker: Worker,
    *,
    api_key: str | None = None,
    max_new_tokens: int | None = None,
) -> float:
    """Measure the processor time of the server's thread for each token of a stream, in seconds.

    The application answers two short requests in a thread of its own, without a connection; the
    second is measured. A small model takes less time for a token.

    Args:
        app: The application.
        model: Name of the model.
        worker: Its worker. It has been started.
        api_key: Key that clients must send. None: no key.
        max_new_tokens: Maximum length of an answer. None: no limit.
    """
    n_tokens = min(_N_TOKENS, max_new_tokens or _N_TOKENS)
    body = {"model": model, "prompt": [0], "max_tokens": n_tokens, "stream": True}

    async def measure() -> float:
        await _answer(app, body, api_key)  # the first request fills caches
        n_before, began_at = worker.counts.n_new_tokens, time.thread_time()
        await _answer(app, body, api_key)
        n_new = worker.counts.n_new_tokens - n_before
        return (time.thread_time() - began_at) / n_new if n_new else 0.0

    return run_apart(measure())


async def _answer(app: ASGIApp, body: dict[str, Any], api_key: str | None) -> None:
    data = json.dumps(body).encode()
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    headers.append((b"content-length", str(len(data)).encode()))
    if api_key is not None:
        headers.append((b"authorization", b"Bearer " + api_key.encode()))
    messages: list[Message] = [{"type": "http.request", "body": data, "more_body": False}]
    ours, theirs = socket.socketpair()

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()  # the client stays
        raise AssertionError

    async def send(message: Message) -> None:
        if part := message.get("body"):
            ours.send(b"%x\r\n%s\r\n" % (len(part), part))
            theirs.recv(len(part) + 16)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/completions",
        "raw_path": b"/v1/completions",
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 80),
    }
    with ours, theirs:
        await app(scope, receive, send)
