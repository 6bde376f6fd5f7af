"""Refusals say which field is wrong and what was found, in a short sentence without jargon."""

import json
from typing import Any

import pytest
from tiny_server import CHAT, JSON, SIZE, TEXT, USER, send

from groundup.serve.serve import Server

ANSWER, LOOK = "/page/answer", "/page/look"
TURNS = [{"role": "user", "text": "the cat"}]
HUGE = 10**400


def refused(server: Server, path: str, body: Any, headers: dict[str, str] = JSON) -> dict[str, Any]:
    status, _, answer = send(server, path, json.dumps(body), headers)
    error: dict[str, Any] = json.loads(answer)["error"]
    assert status in (400, 415), error
    assert len(error["message"]) < 200
    for jargon in ("validation", "dictionary", "parse raw data", "hex escape"):
        assert jargon not in error["message"]
    return error


def api(path: str, **change: Any) -> tuple[str, dict[str, Any]]:
    content = {"messages": USER} if path == CHAT else {"prompt": "the cat"}
    return path, {"model": "tiny", "max_tokens": 1, **content, **change}


def said(**part: Any) -> list[Any]:
    return [{"role": "user", "content": [{"type": "text", "text": "a", **part}]}]


def schema(**schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}


@pytest.mark.parametrize(
    ("asked", "param", "says"),
    [
        (api(CHAT, messages=[]), "messages", "messages has no items. At least 1 item is expected."),
        (api(CHAT, messages=USER * 2049), "messages", "2,049 items. At most 2,048 are expected."),
        (api(CHAT, messages=[3]), "messages[0]", "messages[0] is 3. A JSON object is expected."),
        (api(CHAT, stream_options=3), "stream_options", "A JSON object is expected."),
        (api(CHAT, messages=said(cache=1)), "messages[0].content", "'cache', which is not a param"),
        (api(CHAT, n=100), "n", "n is 100. The server has room for 80 texts of this length."),
        (api(CHAT, user="\ud800"), "user", "user has half of a surrogate pair."),
        (api(CHAT, **{"\ud800": 1}), None, "The key '\\ud800' has half of a surrogate pair."),
        (
            api(CHAT, messages=[{**USER[0], "a\ud800": 1}]),
            "messages[0]",
            "The key 'a\\ud800' has half of a surrogate pair.",
        ),
        (
            api(CHAT, response_format=schema(type="\ud800")),
            "response_format.json_schema.schema",
            "has half of a surrogate pair.",
        ),
        (
            api(TEXT, prompt=["a"] * 64, n=2, max_tokens=50),
            "prompt",
            "prompt has 64 prompts and n is 2, which makes 128 texts. The server has room for 80",
        ),
        (api(TEXT, prompt="the cat " * 10**5), "prompt", "The prompt has at least "),
        (api(TEXT, prompt=[HUGE]), "prompt", "...0000000000000000000, and the vocabulary ends at"),
        (api(TEXT, prompt=[[1], [HUGE]]), "prompt", "prompt has the token id 1000000"),
        ((ANSWER, {"turns": TURNS, "top_k": 0}), "top_k", "top_k is 0."),
        ((ANSWER, {"turns": TURNS, "top_p": 0}), "top_p", "top_p is 0."),
        ((ANSWER, {"turns": TURNS, "min_p": 2}), "min_p", "min_p is 2."),
        ((ANSWER, {"turns": TURNS, "temperature": -1}), "temperature", "temperature is -1."),
        ((ANSWER, {"turns": []}), "turns", "turns has no items. At least 1 item is expected."),
        ((ANSWER, {"turns": ["a"]}), "turns[0]", "turns[0] is 'a'. A JSON object is expected."),
        ((ANSWER, {"prompt": []}), "prompt", "prompt has no token ids."),
        ((ANSWER, {"prompt": [HUGE]}), "prompt[0]", "...0000000000000000000."),
        ((ANSWER, {"turns": TURNS, "answer": [HUGE]}), "answer[0]", "...0000000000000000000."),
        (
            (ANSWER, {"turns": [{"role": "assistant", "ids": [SIZE]}]}),
            "turns",
            f"An answer has the token id {SIZE}. Expected ids below {SIZE}.",
        ),
        ((ANSWER, {"text": "\ud800"}), "text", "text has half of a surrogate pair."),
        ((LOOK, {"ids": [], "token": 1}), "ids", "ids has no token ids."),
        ((LOOK, {"ids": [1], "token": HUGE}), "token", "...0000000000000000000."),
    ],
    ids=lambda value: str(value)[:60],
)
def test_the_field_is_named(
    server: Server, asked: tuple[str, dict[str, Any]], param: str | None, says: str
) -> None:
    error = refused(server, *asked)
    assert error["param"] == param
    assert says in error["message"]


@pytest.mark.parametrize(("body", "at"), [("not json", 0), ('{"model": "x",}', 14), ("", 0)])
def test_a_body_that_is_no_json_is_named(server: Server, body: str, at: int) -> None:
    status, _, answer = send(server, CHAT, body)
    error = json.loads(answer)["error"]
    assert (status, error["param"]) == (400, None)
    assert error["message"].startswith("The body is not ")
    assert error["message"].endswith("A JSON object is expected.")
    assert not body or f"not valid JSON (at character {at})" in error["message"]


@pytest.mark.parametrize(
    "given", ["application/json; boundary=x", "application/json; charset=latin-1", "text/plain"]
)
def test_the_whole_content_type_is_quoted(server: Server, given: str) -> None:
    error = refused(server, *api(CHAT), headers={"Content-Type": given})
    assert f"The Content-Type is '{given}'." in error["message"]
    assert "without another parameter" in error["message"]


def test_as_many_prompts_as_there_is_room_for_are_answered(server: Server) -> None:
    path, body = api(TEXT, prompt=["a"] * 40, n=2)
    status, _, answer = send(server, path, json.dumps(body))
    assert status == 200
    assert len(json.loads(answer)["choices"]) == 80
