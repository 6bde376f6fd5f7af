"""Requests that are wrong: an error in OpenAI's form that names the parameter, soon and small."""

import http.client
import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
from peers import peer
from tiny_server import CHAT, CONTEXT, SIZE, TEXT, USER, address, send

from groundup.serve.serve import Server


def memory_kb(field: str) -> int:
    """Memory of this process, in which the server runs: VmRSS is now, VmHWM the most."""
    return int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0])


def refused(server: Server, path: str, body: Any, **more: Any) -> tuple[int, dict[str, Any]]:
    """Send a request that is wrong, and return the status and the error."""
    text = body if isinstance(body, (str, bytes)) else json.dumps(body)
    Path("/proc/self/clear_refs").write_text("5")  # the most is what is used now
    before_kb, began_at = memory_kb("VmRSS"), time.process_time()
    status, _, answer = send(server, path, text, **more)
    assert time.process_time() - began_at < 1.0
    assert memory_kb("VmHWM") - before_kb < 50_000
    (error,) = json.loads(answer).values()
    assert 400 <= status < 500
    assert set(error) == {"message", "type", "param", "code"}
    assert len(error["message"]) < 500
    assert error["message"].endswith((".", ")", "]"))
    return status, error


def part(kind: Any) -> list[Any]:
    return [{"role": "user", "content": [{"type": kind, "image_url": {"url": "file:///etc"}}]}]


CHANGES: list[tuple[str, dict[str, Any], str, str]] = [
    # path, what is changed, the parameter, what the message says
    (CHAT, {"messages": []}, "messages", "1 item"),
    (CHAT, {"messages": None}, "messages", "list"),
    (CHAT, {"messages": [{"role": "wizard", "content": "a"}]}, "messages[0].role", "'wizard'"),
    (CHAT, {"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role", "'tool'"),
    (CHAT, {"messages": [*USER, {"role": "user"}]}, "messages[1].content", "is missing"),
    (CHAT, {"messages": [{"role": "user", "content": None}]}, "messages[0].content", "text"),
    (CHAT, {"messages": part("image_url")}, "messages[0].content", "'image_url'"),
    (CHAT, {"messages": [{**USER[0], "name": "Ann"}]}, "messages[0].name", "is not supported"),
    (CHAT, {"messages": [{"role": "user", "content": "a\ud800"}]}, "messages[0].content", "surrog"),
    (CHAT, {"messages": [{"role": "user", "content": "ab " * CONTEXT}]}, "messages", f"{CONTEXT}"),
    (CHAT, {"messages": [{"role": "user", "content": "ab " * 10**5}]}, "messages", f"{CONTEXT}"),
    (CHAT, {"model": "gpt-4o"}, "model", "'tiny'"),
    (CHAT, {"model": 3}, "model", "3"),
    (CHAT, {"model": "../../etc/passwd"}, "model", "not served"),
    (CHAT, {"temperature": -1}, "temperature", "-1"),
    (CHAT, {"temperature": math.nan}, "temperature", "nan"),
    (CHAT, {"temperature": math.inf}, "temperature", "inf"),
    (CHAT, {"temperature": "1"}, "temperature", "'1'"),
    (CHAT, {"temperature": True}, "temperature", "True"),
    (CHAT, {"top_p": 0}, "top_p", "greater than 0"),
    (CHAT, {"top_p": 1.1}, "top_p", "1.1"),
    (CHAT, {"max_tokens": 0}, "max_tokens", "0"),
    (CHAT, {"max_completion_tokens": 0}, "max_completion_tokens", "0"),
    (CHAT, {"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens", "One of them"),
    (CHAT, {"max_tokens": 1.5}, "max_tokens", "1.5"),
    (CHAT, {"n": 0}, "n", "0"),
    (CHAT, {"n": 1000}, "n", "1000"),
    (CHAT, {"seed": 2**64}, "seed", "seed"),
    (CHAT, {"stop": ["a", "b", "c", "d", "e"]}, "stop", "5 texts"),
    (CHAT, {"stop": ""}, "stop", "empty"),
    (CHAT, {"stop": ["a", ""]}, "stop", "empty"),
    (CHAT, {"stop": [3]}, "stop", "another type"),
    (CHAT, {"stop": ["\udc00"]}, "stop", "surrogate"),
    (CHAT, {"logit_bias": {"99999999": 1}}, "logit_bias", f"ends at {SIZE - 1}"),
    (CHAT, {"logit_bias": {str(SIZE): 1}}, "logit_bias", f"{SIZE}"),
    (CHAT, {"logit_bias": {"the": 1}}, "logit_bias", "'the'"),
    (CHAT, {"logit_bias": {"5": 101}}, "logit_bias", "-100 to 100"),
    (CHAT, {"logit_bias": {"5": math.nan}}, "logit_bias", "-100 to 100"),
    (CHAT, {"logit_bias": [1]}, "logit_bias", "object"),
    (CHAT, {"logprobs": True, "top_logprobs": 21}, "top_logprobs", "21"),
    (CHAT, {"top_logprobs": 2}, "top_logprobs", "logprobs: true"),
    (CHAT, {"logprobs": 3}, "logprobs", "3"),
    (CHAT, {"stream": "yes"}, "stream", "'yes'"),
    (CHAT, {"stream_options": {"include_usage": True}}, "stream_options", "stream: true"),
    (CHAT, {"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "not a parameter"),
    (CHAT, {"surprise": 1}, "surprise", "surprise is not a parameter"),
    (CHAT, {"a" * 5000: 1}, "a" * 100, "not a parameter"),
    (CHAT, {"tools": [{"type": "function"}]}, "tools", "tools is not supported"),
    (CHAT, {"functions": [{}]}, "functions", "is not supported"),
    (CHAT, {"reasoning_effort": "high"}, "reasoning_effort", "is not supported"),
    (CHAT, {"response_format": {"type": "xml"}}, "response_format.type", "'xml'"),
    (CHAT, {"response_format": {"type": "json_schema"}}, "response_format", "lacks one"),
    (CHAT, {"presence_penalty": 3}, "presence_penalty", "3"),
    (CHAT, {"repetition_penalty": 0}, "repetition_penalty", "0"),
    (CHAT, {"top_k": 0}, "top_k", "0"),
    (CHAT, {"min_p": -0.1}, "min_p", "-0.1"),
    (TEXT, {"prompt": None}, "prompt", "another type"),
    (TEXT, {"prompt": []}, "prompt", "empty"),
    (TEXT, {"prompt": [[]]}, "prompt", "empty list"),
    (TEXT, {"prompt": ["a", 3]}, "prompt", "another type"),
    (TEXT, {"prompt": ["a"] * 65}, "prompt", "65"),
    (TEXT, {"prompt": [SIZE]}, "prompt", f"ends at {SIZE - 1}"),
    (TEXT, {"prompt": [-1]}, "prompt", "-1"),
    (TEXT, {"prompt": [1] * (CONTEXT + 1)}, "prompt", f"{CONTEXT + 1} tokens"),
    (TEXT, {"prompt": "ab " * CONTEXT}, "prompt", f"{CONTEXT}"),
    (TEXT, {"prompt": "\ud800"}, "prompt", "surrogate"),
    (TEXT, {"logprobs": 21}, "logprobs", "21"),
    (TEXT, {"best_of": 3}, "best_of", "is not supported"),
    (TEXT, {"echo": True}, "echo", "is not supported"),
    (TEXT, {"suffix": "end"}, "suffix", "is not supported"),
    (TEXT, {"messages": USER}, "messages", "not a parameter"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "change", "param", "says"), CHANGES, ids=lambda value: str(value)[:40]
)
def test_a_bad_value_is_named(
    server: Server, path: str, change: dict[str, Any], param: str, says: str
) -> None:
    content = {"messages": USER} if path == CHAT else {"prompt": "the cat"}
    status, error = refused(server, path, {"model": "tiny", "max_tokens": 1, **content, **change})
    assert status == (404 if param == "model" and change["model"] != 3 else 400)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert says in error["message"]


def test_both_counts_of_a_prompt_that_is_too_long_are_named(server: Server) -> None:
    body = {"model": "tiny", "prompt": [1] * 300}
    _, error = refused(server, TEXT, body)
    assert error["message"] == (
        f"The prompt has 300 tokens, and the context of the model has {CONTEXT}. A shorter prompt "
        "is expected."
    )
    assert error["code"] == "context_length_exceeded"


SCHEMAS: list[tuple[Any, str]] = [
    ({"enum": [f"value{i}" for i in range(60_000)]}, "16,384"),
    ({"type": "integer", "multipleOf": 999_983}, "999983. At most 20,000"),
    ({"type": "integer", "multipleOf": 10**400}, "At most 20,000"),
    ({"allOf": [{"multipleOf": 997}, {"multipleOf": 1003}]}, "999991. At most 20,000"),
    (
        {"type": "object", "properties": {f"k{i}": {"type": "null"} for i in range(600)}},
        "Current row has",
    ),
    ({"type": "string", "pattern": "(?=a)b" * 2000}, "look-around"),
    ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "cannot be followed"),
    ({"allOf": [{"type": "string", "pattern": f"^.*{c}.{{50}}x"} for c in "abcdef"]}, "cannot be"),
]


@pytest.mark.parametrize(("schema", "says"), SCHEMAS, ids=lambda value: str(value)[:30])
def test_a_schema_that_cannot_be_followed_is_refused(
    server: Server, schema: Any, says: str
) -> None:
    peer("llguidance")
    # The first use makes the tokens of the grammar.
    made = {"type": "json_object"}
    body = {"model": "tiny", "prompt": "the", "max_tokens": 1}
    assert send(server, TEXT, json.dumps({**body, "response_format": made}))[0] == 200
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    status, error = refused(server, TEXT, {**body, "response_format": form})
    assert (status, error["param"]) == (400, "response_format")
    assert says in error["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("answer", {"text": "a" * 10**6}),
        ("answer", {"prompt": [1] * 300_000}),
        ("answer", {"turns": [{"role": "user", "text": "ab"}] * 9_000}),
        ("answer", {"turns": [{"role": "user", "text": "a"}] * 10_001}),
        ("answer", {"text": "a", "answer": [1] * 300_000}),
        ("answer", {"text": "a", "character": 3}),
        ("answer", {"text": "a", "temperature": -1}),
        ("look", {"ids": [1] * 300_000, "token": 1}),
        ("look", {"ids": [1], "token": 10**30}),
        ("model", {"x" * 10**6: 1}),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_bad_request_of_the_page_is_refused(server: Server, path: str, body: Any) -> None:
    assert refused(server, f"/page/{path}", body)[0] == 400


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_a_missing_parameter_is_named(server: Server, missing: str) -> None:
    body = {"model": "tiny", "messages": USER}
    del body[missing]
    status, error = refused(server, CHAT, body)
    assert (status, error["param"]) == (400, missing)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "JSON"),
        (b"{", 400, "JSON"),
        (b"[]", 400, "JSON object"),
        (b"null", 400, "JSON object"),
        (b"3", 400, "JSON object"),
        (b'{"model": "\xff"}', 400, "JSON"),
        (b'{"model": ' + b"1" * 5000 + b"}", 400, ""),
        (b"[" * 20_000 + b"]" * 20_000, 400, "nested"),
        (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, 400, "nested"),
        (b'{"messages": [' + b"[]," * 300_000 + b"[]]}", 400, "300,003 lists and objects"),
        (b'{"model": "' + b"a" * 5_000_000 + b'"}', 413, "larger"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_bad_body_is_refused(server: Server, body: bytes, status: int, says: str) -> None:
    found, error = refused(server, CHAT, body)
    assert (found, says in error["message"]) == (status, True)


def test_a_long_body_without_a_length_is_refused(server: Server) -> None:
    connection = http.client.HTTPConnection(*address(server), timeout=20)
    parts = (b"[" + b"1," * 50_000 for _ in range(50))
    connection.putrequest("POST", CHAT)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    for piece in parts:  # the server reads on after its answer, so that the client can read it
        connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    connection.send(b"0\r\n\r\n")
    assert connection.getresponse().status == 413


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/v1/embeddings", "POST", 404),
        ("/v1/%2e%2e/%2e%2e/etc/passwd", "GET", 404),
        ("/%2e%2e/%2e%2e/etc/passwd", "GET", 404),
        ("/page/..%2f..%2fapp.py", "GET", 404),
        (CHAT, "GET", 405),
        ("/v1/models", "DELETE", 405),
    ],
)
def test_unknown_paths_and_methods(server: Server, path: str, method: str, status: int) -> None:
    found, error = refused(server, path, b"{}", method=method)
    assert found == status
    assert error["param"] is None


def test_a_model_without_a_template_answers_no_conversation(server: Server) -> None:
    model = server.served.model
    template = model.chat_template
    object.__setattr__(model, "chat_template", None)
    try:
        _, error = refused(server, CHAT, {"model": "tiny", "messages": USER})
    finally:
        object.__setattr__(model, "chat_template", template)
    assert "/v1/completions" in error["message"]
