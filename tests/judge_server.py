"""A local server that answers like an OpenAI-compatible one, well or badly."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, dict[str, str], bytes]


def said(text: str) -> Reply:
    body = {"choices": [{"message": {"role": "assistant", "content": text}}]}
    return 200, {}, json.dumps(body).encode()


def answers_of(request: dict[str, Any]) -> tuple[str, str]:
    """The two answers in a request to the judge."""
    content = request["messages"][1]["content"]
    return tuple(content.split(f"<answer {i}>\n")[1].split(f"\n</answer {i}>")[0] for i in (1, 2))


def longer(request: dict[str, Any]) -> Reply:
    """A well-behaved judge: the longer answer is better."""
    first, second = map(len, answers_of(request))
    return said(f"Because. [[{'1' if first > second else '2' if second > first else 'tie'}]]")


class Server:
    """What the server was asked, and what it does."""

    def __init__(self, behave: Callable[[dict[str, Any]], Reply]) -> None:
        self.behave = behave
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.n_open = self.most_open = 0
        self.lock = threading.Lock()
        self.url = ""


@contextmanager
def serving(behave: Callable[[dict[str, Any]], Reply], delay_s: float = 0.0) -> Iterator[Server]:
    state = Server(behave)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with state.lock:
                state.requests.append({"path": self.path, **request})
                state.headers.append(dict(self.headers))
                state.n_open += 1
                state.most_open = max(state.most_open, state.n_open)
            time.sleep(delay_s)
            status, headers, body = state.behave(request)
            with state.lock:
                state.n_open -= 1
            try:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass  # the client no longer waits

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
