"""A web page, another machine, and a client without the key get no answer."""

import json
import logging
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tiny_server import CHAT, JSON, USER, address, chat_run, send, serving

from groundup.base.errors import UserError
from groundup.serve.security import Access
from groundup.serve.serve import Server, open_server

BODY = json.dumps({"model": "tiny", "messages": USER, "max_tokens": 1})


@pytest.mark.parametrize(
    ("headers", "status", "says"),
    [
        ({"Content-Type": "text/plain"}, 415, "text/plain"),
        ({}, 415, "application/json"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "application/json"),
        ({"Content-Type": "application/json; charset=utf-16"}, 415, "UTF-8"),
        ({**JSON, "Content-Encoding": "gzip"}, 415, "compressed"),
        ({**JSON, "Host": "evil.example"}, 421, "evil.example"),
        ({**JSON, "Host": "evil.example:80"}, 421, "evil.example"),
        ({**JSON, "Host": "localhost.evil.example"}, 421, "evil.example"),
        ({**JSON, "Host": "10.0.0.1"}, 421, "10.0.0.1"),
        ({**JSON, "Origin": "https://evil.example"}, 403, "evil.example"),
        ({**JSON, "Origin": "null"}, 403, "null"),
        ({**JSON, "Origin": "http://127.0.0.1:1"}, 403, "another site"),
        ({**JSON, "Sec-Fetch-Site": "cross-site"}, 403, "another site"),
    ],
)
def test_other_sites_are_refused(
    server: Server, headers: dict[str, str], status: int, says: str
) -> None:
    found, answer_headers, body = send(server, CHAT, BODY, headers)
    assert found == status
    assert says in json.loads(body)["error"]["message"]
    assert not [name for name in answer_headers if name.startswith("access-control")]


def test_a_page_may_not_ask_whether_it_may(server: Server) -> None:
    """CORS: a browser asks before it sends JSON to another site. The answer is never yes."""
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for given in (headers, {"Access-Control-Request-Method": "POST"}):
        status, found, _ = send(server, CHAT, None, given, method="OPTIONS")
        assert status in (403, 405)
        assert not [name for name in found if name.startswith("access-control")]


def test_the_page_of_the_server_itself_may(server: Server) -> None:
    own = {**JSON, "Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    assert send(server, CHAT, BODY, own)[0] == 200
    name = server.url.removeprefix("http://127.0.0.1")
    local = {**JSON, "Host": f"localhost{name}", "Origin": f"http://localhost{name}"}
    status, headers, _ = send(server, CHAT, BODY, local)
    assert status == 200
    assert headers["x-content-type-options"] == "nosniff"
    assert "server" not in headers


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "gpu.example.org"])
def test_other_addresses_need_a_key(host: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no key is set"):
        open_server(chat_run(tmp_path / "tiny"), host=host)
    Access(host=host, api_key="long enough")


def test_hosts_of_an_open_server() -> None:
    access = Access(host="0.0.0.0", api_key="long enough", allowed_hosts=["gpu.example.org"])
    assert access.is_host_known("gpu.example.org")
    assert access.is_host_known("192.168.1.5")
    assert access.is_host_known("localhost")
    assert not access.is_host_known("evil.example")


@pytest.mark.parametrize("key", ["short", "with a line\nfeed", "ключ-из-букв"])
def test_a_key_that_no_client_can_send(key: str) -> None:
    with pytest.raises(UserError, match="The key"):
        Access(api_key=key)


def test_a_key_is_demanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDUP_API_KEY", "correct horse")
    with serving(chat_run(tmp_path / "tiny")) as server:

        def status(path: str, key: str | None, body: str | None = None) -> int:
            headers = dict(JSON) if key is None else {**JSON, "Authorization": key}
            found, more, answer = send(
                server, path, body, headers, method="GET" if body is None else "POST"
            )
            if found == 401:
                assert more["www-authenticate"] == "Bearer"
                assert json.loads(answer)["error"]["code"] == "invalid_api_key"
                assert "correct horse" not in answer.decode()
            return found

        assert status(CHAT, "Bearer correct horse", BODY) == 200
        for wrong in (None, "Bearer wrong", "Bearer correct hors", "Basic correct horse", "Bearer"):
            assert status(CHAT, wrong, BODY) == 401
        assert status("/metrics", None) == status("/v1/models", None) == 401
        assert status("/openapi.json", None) == 401
        assert status("/health", None) == 200  # says nothing of the model's work


def test_nothing_of_a_conversation_is_logged(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a bug quotes it."""
    from groundup.serve import respond

    def prepare(form: Any, served: Any) -> None:
        raise KeyError("my secret")

    monkeypatch.setattr(respond, "prepare", prepare)
    caplog.set_level(logging.DEBUG)
    body = {"model": "tiny", "messages": [{"role": "user", "content": "my secret"}]}
    status, _, answer = send(server, CHAT, json.dumps(body))
    assert status == 500
    assert b"KeyError" in answer
    monkeypatch.undo()
    assert send(server, CHAT, json.dumps({**body, "max_tokens": 3}))[0] == 200
    send(server, CHAT, json.dumps({**body, "temperature": -1}))
    assert "A request failed: KeyError" in caplog.text
    assert "secret" not in caplog.text
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]
    assert b"secret" not in answer


def test_a_slow_or_broken_client_harms_nobody(server: Server) -> None:
    host, port = address(server)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    with socket.create_connection((host, port)) as slow:
        slow.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        with socket.create_connection((host, port)) as broken:
            broken.sendall(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
            assert broken.recv(100).startswith(b"HTTP/1.1 400")
        with urllib.request.urlopen(f"{server.url}/health") as answer:
            assert answer.status == 200
