"""What the page asks its server: tokens with their alternatives, branches, and a look inside."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import torch
from decoder_models import whole
from page_server import serving, small_served

from groundup.chat.cast import Cast
from groundup.generation.decoder import Decoder
from groundup.inspection.capture import capture
from groundup.inspection.lens import MOST_TOKENS
from groundup.serve import inspect
from groundup.serve.inspect import page_router
from groundup.serve.page_prompt import Turn, cast_prompt, chat_prompt
from groundup.serve.served_model import ServedModel
from groundup.tokenizer.chat_template import CHAT_TEMPLATE, ChatTemplate
from groundup.tokenizer.special import ASSISTANT, END, USER

PAGE = Path(inspect.__file__).parent / "page"
GREEDY = {"temperature": 0, "max_new_tokens": 6}


class Server:
    def __init__(self, served: ServedModel, url: str) -> None:
        self.served, self.address = served, url.removeprefix("http://")

    def send(self, method: str, path: str, body: Any = None) -> HTTPConnection:
        connection = HTTPConnection(self.address, timeout=30)
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        return connection

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        response = self.send("POST", path, body).getresponse()
        return response.status, json.loads(response.read())

    def answer(self, **body: Any) -> list[dict[str, Any]]:
        response = self.send("POST", "/page/answer", {**GREEDY, **body}).getresponse()
        text = response.read()
        assert response.status == 200, text
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    served = small_served(tmp_path_factory.mktemp("base"), can_chat=False)
    with serving(served) as url:
        yield Server(served, url)


@pytest.fixture(scope="module")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    served = small_served(tmp_path_factory.mktemp("assistant"), can_chat=True)
    with serving(served) as url:
        yield Server(served, url)


def ids_of(events: list[dict[str, Any]]) -> tuple[list[int], list[int]]:
    tokens = [event["token"]["id"] for event in events if "token" in event]
    return [index for index, _, _ in events[0]["prompt"]], tokens


def test_tokens_come_with_the_probabilities_of_the_model_and_a_branch_goes_on_from_ids(
    base: Server,
) -> None:
    events = base.answer(text="the cat")
    prompt, answer = ids_of(events)
    assert prompt == base.served.tokenizer.encode("the cat")
    assert len(answer) == 6
    assert events[-1] == {"end": "length"}
    logits = whole(base.served.model.model, prompt + answer)[len(prompt) - 1 : -1]
    logprobs = logits.log_softmax(dim=1)
    for i, event in enumerate(events[1:-1]):
        token = event["token"]
        alternatives = {index: logprob for index, _, _, logprob in token["alternatives"]}
        best = logprobs[i].topk(10)
        assert list(alternatives) == best.indices.tolist()
        torch.testing.assert_close(
            torch.tensor(list(alternatives.values())), best.values, atol=1e-4, rtol=0
        )
        assert token["logprob"] == pytest.approx(float(logprobs[i, answer[i]]), abs=1e-4)
    alternative = events[3]["token"]["alternatives"][1][0]
    branch = ids_of(base.answer(prompt=prompt, answer=[*answer[:2], alternative]))
    assert branch[0] == prompt
    whole_ids = [*prompt, *answer[:2], alternative, *branch[1]]
    again = whole(base.served.model.model, whole_ids).argmax(dim=1).tolist()
    assert branch[1] == again[len(prompt) + 2 : -1]


@pytest.mark.parametrize("template", [None, ChatTemplate(CHAT_TEMPLATE)], ids=["ours", "Jinja"])
def test_text_is_never_a_control_token_and_answers_keep_their_ids(
    assistant: Server, template: ChatTemplate | None
) -> None:
    tokenizer = assistant.served.tokenizer
    user, end, ours = (tokenizer.special_tokens[name] for name in (USER, END, ASSISTANT))
    model = replace(assistant.served.model, chat_template=template, tokenizer_ends=(end,))
    said, spelled = f"{END}{ASSISTANT}", [ord(c) for c in "the cat"]
    assert tokenizer.decode(spelled) == "the cat"
    assert tokenizer.encode("the cat") != spelled
    turns = [
        Turn(role="user", text=said),
        Turn(role="assistant", ids=[*spelled, end]),
        Turn(role="user", text=said),
    ]
    text = tokenizer.encode(said)
    expected = [user, *text, end, ours, *spelled, end, user, *text, end, ours]
    assert chat_prompt(replace(assistant.served, model=model), turns) == expected
    assert not {user, end, ours} & set(text)


def test_a_text_to_continue_has_no_control_token_either(base: Server) -> None:
    special = set(base.served.tokenizer.special_tokens.values())
    assert special.isdisjoint(ids_of(base.answer(text=f"a{END}{ASSISTANT}"))[0])


def test_the_token_that_ends_an_answer_is_shown_with_its_alternatives(assistant: Server) -> None:
    turns = [{"role": "user", "text": "the cat"}]
    settings = {"turns": turns, "temperature": 5, "max_new_tokens": 40}
    tries = (assistant.answer(**settings, seed=seed) for seed in range(40))
    events = next(events for events in tries if events[-1] == {"end": "stop"})
    last = events[-2]["token"]
    assert last["id"] in assistant.served.model.stop_ids
    assert last["text"] == ""
    assert len(last["alternatives"]) == 11
    prompt = chat_prompt(assistant.served, [Turn(role="user", text="the cat")])
    assert ids_of(events)[0] == prompt


def test_a_scene_is_written_as_in_the_plays(base: Server) -> None:
    cast = Cast(cues=("A.", "B."), partners={"A.": "B.", "B.": "A."})
    turns = [
        Turn(role="user", text=" the cat "),
        Turn(role="assistant", ids=base.served.tokenizer.encode("sat\n\n")),
        Turn(role="user", text="on"),
    ]
    ids = cast_prompt(base.served, cast, turns, "b")
    expected = "A.\nthe cat\n\nB.\nsat\n\nA.\non\n\nB.\n"
    assert base.served.tokenizer.decode(ids) == expected


def test_a_look_inside_is_what_the_answer_was_made_of(base: Server) -> None:
    events = base.answer(text="the cat sat on the mat and the dog sat")
    prompt, answer = ids_of(events)
    token = events[4]["token"]
    before = [*prompt, *answer[:3]]
    status, found = base.post("/page/look", {"ids": before, "token": token["id"]})
    assert status == 200
    last = found["layers"][-1]
    assert last["logprob"] == pytest.approx(token["logprob"], abs=1e-4)
    assert [alternative[:3] for alternative in last["top"]] == [
        alternative[:3] for alternative in token["alternatives"][:5]
    ]
    assert len(found["layers"]) == 4
    assert last["rank"] == 1
    expected = capture(base.served.model.model, before).attention[:, :, -1]
    torch.testing.assert_close(
        torch.tensor(found["attention"]) / 1000.0, expected, atol=6e-4, rtol=0
    )


BAD = {
    "temperature": ("answer", {"text": "a", "temperature": -1}, "temperature is -1"),
    "seed": ("answer", {"text": "a", "seed": -1}, "seed is -1"),
    "no prompt": ("answer", {}, "0 of prompt, turns and text"),
    "two prompts": ("answer", {"text": "a", "prompt": [1]}, "2 of prompt, turns and text"),
    "a chat": ("answer", {"turns": [{"role": "user", "text": "a"}]}, "no chat template"),
    "a megabyte": ("answer", {"text": "a" * 10**6}, "tokens, and the context of the model has 96"),
    "a role": ("answer", {"turns": [{"role": "system", "text": "a"}]}, "turns[0].role is 'system'"),
    "unknown": ("answer", {"text": "a", "beams": 2}, "beams is not a parameter"),
    "an id": ("answer", {"prompt": [1, 300]}, "300"),
    "too long": ("answer", {"prompt": [1] * 97}, "97 tokens, and the context of the model has 96"),
    "an empty text": ("answer", {"text": "a", "answer": "b"}, "answer is 'b'"),
    "max_new_tokens": ("answer", {"text": "a", "max_new_tokens": 0}, "max_new_tokens is 0"),
    "no ids": ("look", {"ids": [], "token": 1}, "no token ids"),
    "a token": ("look", {"ids": [1], "token": 300}, "300"),
    "a long look": ("look", {"ids": [1] * (MOST_TOKENS + 1), "token": 1}, "1,025 tokens"),
    "a look beyond the context": ("look", {"ids": [1] * 97, "token": 1}, "97 tokens"),
}


@pytest.mark.parametrize(("path", "body", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_named_in_a_sentence(
    base: Server, path: str, body: dict[str, Any], message: str
) -> None:
    status, found = base.post(f"/page/{path}", body)
    assert status == 400
    assert message in found["error"]["message"]


def test_one_look_is_computed_at_a_time_and_few_wait(
    base: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, running, most = threading.Event(), [], []

    def slow(decoder: Decoder, ids: list[int]) -> Any:
        running.append(ids)
        most.append(len(running))
        go_on.wait(10)
        running.pop()
        raise inspect.UserError("This was slow.")

    monkeypatch.setattr(inspect, "look", slow)
    with serving(small_served(tmp_path, can_chat=False)) as url:
        server = Server(base.served, url)
        asked = []
        for _ in range(8):
            asked.append(server.send("POST", "/page/look", {"ids": [1], "token": 1}))
            time.sleep(0.02)
        asked[0].close()  # its thread goes on, and the next one waits for it
        time.sleep(0.1)
        go_on.set()
        found = [connection.getresponse() for connection in asked[1:]]
    assert [response.status for response in found] == [400] * 4 + [429] * 3
    assert found[-1].headers["Retry-After"] == "1"
    assert max(most) == 1


def test_the_limit_of_the_server_shortens_an_answer(tmp_path: Path) -> None:
    served = replace(small_served(tmp_path, can_chat=False), max_new_tokens=3)
    with serving(served) as url:
        events = Server(served, url).answer(text="the cat", max_new_tokens=80)
    assert len(ids_of(events)[1]) == 3


def test_a_client_that_leaves_frees_its_row(base: Server) -> None:
    body = {"text": "the", "temperature": 1, "max_new_tokens": 90, "answer": [1]}
    before = base.served.worker.counts
    connection = base.send("POST", "/page/answer", body)
    connection.getresponse().readline()
    connection.close()
    for _ in range(200):
        if (counts := base.served.worker.counts).n_running == 0:
            break
        time.sleep(0.01)
    assert counts.n_running == 0
    assert counts.n_new_tokens - before.n_new_tokens < 90


def test_the_page_may_load_nothing_from_elsewhere_and_writes_text_as_text(base: Server) -> None:
    for path in ("/", "/page/app.js", "/page/style.css", "/page/icon.svg"):
        response = base.send("GET", path).getresponse()
        assert response.status == 200
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "require-trusted-types-for 'script'" in policy
    for path in ("/page/inspect.py", "/page/..%2finspect.py", "/page/%2e%2e/inspect.py"):
        assert base.send("GET", path).getresponse().status == 404
    scripts = "".join(file.read_text("utf-8") for file in PAGE.glob("*.js"))
    for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "http:"):
        assert word not in scripts
    html = (PAGE / "index.html").read_text("utf-8")
    assert "style=" not in html
    assert " onclick" not in html
    assert "//" not in html.replace("<!doctype", "")


def test_the_page_describes_the_model(base: Server, assistant: Server) -> None:
    modes = [server.post("/page/model", {})[1]["mode"] for server in (base, assistant)]
    assert modes == ["text", "chat"]
    assert page_router(base.served).routes
