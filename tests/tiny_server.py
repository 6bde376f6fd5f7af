"""A server with a tiny chat model on a free port, in a thread of the test."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from chat_templates import TEMPLATES
from decoder_models import lively
from foreign_tokenizers import KINDS

from groundup.model.config import GPTConfig
from groundup.serve.serve import Server, open_server
from groundup.weights.checkpoint_format import save_model

CONTEXT = 256
SIZE = max(token["id"] for token in KINDS["digits"]["added_tokens"]) + 1
IDS = {token["content"]: token["id"] for token in KINDS["digits"]["added_tokens"]}


USER: list[Any] = [{"role": "user", "content": "the cat"}]
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
JSON = {"Content-Type": "application/json"}


def chat_run(folder: Path, *, template: str | None = TEMPLATES["chatml"]) -> Path:
    """A run of an imported chat model with random weights; none of its texts ends soon."""
    config = GPTConfig(
        vocab_size=SIZE, context_length=CONTEXT, d_model=16, n_layers=2, n_heads=2,
        tie_embeddings=False,
    )  # fmt: skip
    save_model(lively(config), folder / "checkpoints" / "step-000000")
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.json").write_text(json.dumps(KINDS["digits"]), encoding="utf-8")
    about = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": template}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


@contextmanager
def serving(run: Path, **settings: Any) -> Iterator[Server]:
    """Serve a run until the end of the block."""
    server = open_server(run, port=0, **settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    host, port = address(server)
    while True:
        with suppress(ConnectionRefusedError), socket.create_connection((host, port)):
            break
        time.sleep(0.01)
    try:
        yield server
    finally:
        server.stop()
        thread.join(10)
        assert not thread.is_alive()


def address(server: Server) -> tuple[str, int]:
    host, port = server.url.removeprefix("http://").split(":")
    return host, int(port)


def send(
    server: Server, path: str, body: bytes | str | None, headers: dict[str, str] = JSON,
    method: str = "POST",
) -> tuple[int, dict[str, str], bytes]:  # fmt: skip
    connection = http.client.HTTPConnection(*address(server), timeout=20)
    try:
        data = body.encode() if isinstance(body, str) else body
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, answer.read()
    finally:
        connection.close()
