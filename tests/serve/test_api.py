"""The official client of OpenAI against a real server."""

import json
import urllib.request
from typing import Any

import pytest
from peers import peer
from tiny_server import CONTEXT, IDS, USER

from groundup.generation.generate import generate
from groundup.serve.serve import Server
from groundup.tokenizer.conversation import render_ids
from groundup.tokenizer.template import Message

openai = peer("openai", 3)


@pytest.fixture(scope="module")
def client(server: Server) -> Any:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0)


def ids_of(server: Server, seed: int, n: int, **sampling: Any) -> list[int]:
    """The tokens of an answer, by the function that `groundup.generate` is."""
    model = server.served.model
    messages = [Message("user", "the cat")]
    prompt, _ = render_ids(
        messages, model.tokenizer, model.chat_template, add_generation_prompt=True
    )
    sampling = {"temperature": 1.0, "seed": seed, **sampling}
    return generate(model.model, prompt, n, stop_ids=model.stop_ids, **sampling)


def test_models(client: Any, server: Server) -> None:
    (model,) = client.models.list().data
    assert model == client.models.retrieve("tiny")
    assert (model.id, model.context_length) == ("tiny", CONTEXT)
    assert model.weights_sha256 == server.served.weights_sha256
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_an_answer_is_the_text_of_the_engine(client: Any, server: Server) -> None:
    answer = client.chat.completions.create(model="tiny", messages=USER, max_tokens=12, seed=5)
    ids = ids_of(server, 5, 12)
    assert answer.choices[0].message.content == server.served.tokenizer.decode(ids)
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    assert answer.system_fingerprint == server.served.fingerprint


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"top_p": 0.6, "temperature": 0.7},
        {"extra_body": {"top_k": 3}},
        {"extra_body": {"min_p": 0.5, "repetition_penalty": 1.3}},
        {"frequency_penalty": 1.5, "presence_penalty": -0.5},
        {"logit_bias": {"70": 100}},
    ],
)
def test_samplers_are_those_of_the_engine(
    client: Any, server: Server, settings: dict[str, Any]
) -> None:
    asked = {**settings, **settings.get("extra_body", {})}
    asked.pop("extra_body", None)
    bias = {int(key): value for key, value in asked.pop("logit_bias", {}).items()}
    ids = ids_of(server, 3, 10, logit_bias=bias, **asked)
    answer = client.chat.completions.create(
        model="tiny", messages=USER, max_tokens=10, seed=3, **settings
    )
    assert answer.choices[0].message.content == server.served.tokenizer.decode(ids)


def test_without_a_seed_answers_differ(client: Any) -> None:
    texts = {
        client.completions.create(model="tiny", prompt="the cat", max_tokens=12).choices[0].text
        for _ in range(2)
    }
    assert len(texts) == 2


def chunks_of(client: Any, *, is_chat: bool, **settings: Any) -> list[Any]:
    asked: dict[str, Any] = {"model": "tiny", "stream": True, "seed": 4}
    if is_chat:
        return list(client.chat.completions.create(messages=USER, **{**asked, **settings}))
    return list(client.completions.create(**{"prompt": "the cat", **asked, **settings}))


@pytest.mark.parametrize("is_chat", [True, False])
def test_a_stream_is_the_whole_answer(client: Any, is_chat: bool) -> None:
    settings: dict[str, Any] = {"n": 3, "max_tokens": 9, "stop": ["a", "on", " t"]}
    settings |= {"logprobs": True, "top_logprobs": 3} if is_chat else {"logprobs": 3}
    usage = {"stream_options": {"include_usage": True}}
    chunks = chunks_of(client, is_chat=is_chat, **settings, **usage)
    create = client.chat.completions.create if is_chat else client.completions.create
    more = {"messages": USER} if is_chat else {"prompt": "the cat"}
    whole = create(model="tiny", seed=4, **settings, **more)
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert {(c.id, c.created, c.system_fingerprint) for c in chunks} == {
        (chunks[0].id, chunks[0].created, whole.system_fingerprint)
    }
    for choice in whole.choices:
        own = [c.choices[0] for c in chunks[:-1] if c.choices[0].index == choice.index]
        assert own[-1].finish_reason == choice.finish_reason
        assert [c.finish_reason for c in own[:-1]] == [None] * (len(own) - 1)
        if is_chat:
            assert "".join(c.delta.content or "" for c in own) == choice.message.content
            assert [c.delta.role for c in own] == ["assistant"] + [None] * (len(own) - 1)
            listed = [e for c in own if c.logprobs for e in c.logprobs.content]
            assert listed == choice.logprobs.content
        else:
            assert "".join(c.text for c in own) == choice.text
            found = [c.logprobs for c in own if c.logprobs]
            for key, values in choice.logprobs.to_dict().items():
                assert [value for c in found for value in c.to_dict()[key]] == values


def test_usage_comes_only_when_asked(client: Any) -> None:
    chunks = chunks_of(client, is_chat=True, max_tokens=3)
    assert all(len(chunk.choices) == 1 and chunk.usage is None for chunk in chunks)


def test_the_first_of_several_answers_is_the_single_one(client: Any) -> None:
    def texts(**settings: Any) -> list[str]:
        found = client.completions.create(
            model="tiny", prompt="the cat", max_tokens=8, seed=2, **settings
        )
        return [choice.text for choice in found.choices]

    three = texts(n=3)
    assert len(set(three)) == 3
    assert texts() == three[:1]


def test_logprobs_are_those_of_the_model(client: Any, server: Server) -> None:
    """The same for a token at any temperature; the drawn token is always listed."""
    bias = {"logit_bias": {"70": 100}}
    found = []
    for temperature in (0.1, 1.5):
        answer = client.chat.completions.create(
            model="tiny", messages=USER, max_tokens=3, temperature=temperature, logprobs=True,
            top_logprobs=2, **bias,
        )  # fmt: skip
        entries = answer.choices[0].logprobs.content
        assert [bytes(e.bytes) for e in entries] == [server.served.token_bytes(70)] * 3
        assert all(e.token in [top.token for top in e.top_logprobs] for e in entries)
        assert all(e.logprob < -1 for e in entries)
        found.append([e.logprob for e in entries])
    assert found[0] == found[1]
    plain = client.chat.completions.create(model="tiny", messages=USER, max_tokens=3, logprobs=True)
    assert [e.top_logprobs for e in plain.choices[0].logprobs.content] == [[], [], []]


def test_a_stop_string_is_no_part_of_the_answer(client: Any) -> None:
    free = client.completions.create(model="tiny", prompt="a", max_tokens=40, seed=1).choices[0]
    stop = free.text[7:9]
    end = free.text.index(stop)
    chunks = chunks_of(client, is_chat=False, prompt="a", max_tokens=40, seed=1, stop=[stop])
    assert "".join(c.choices[0].text for c in chunks) == free.text[:end]
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_prompts_may_be_several_and_may_be_ids(client: Any, server: Server) -> None:
    def texts(prompt: Any) -> list[str]:
        found = client.completions.create(model="tiny", prompt=prompt, max_tokens=5, n=2, seed=8)
        assert [choice.index for choice in found.choices] == list(range(len(found.choices)))
        return [choice.text for choice in found.choices]

    ids = server.served.tokenizer.encode("the cat")
    begin = server.served.tokenizer.begin_ids
    assert texts(["the cat", "on the"]) == texts("the cat") + texts("on the")
    assert texts([*begin, *ids]) == texts([[*begin, *ids]]) == texts("the cat")


def test_a_message_may_have_parts_and_never_control_tokens(client: Any, server: Server) -> None:
    parts = [{"type": "text", "text": "the "}, {"type": "text", "text": "cat"}]
    answers = [
        client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": content}], max_tokens=6, seed=1
        )
        for content in ("the cat", parts, "the cat<|im_end|>")
    ]
    assert answers[0].choices == answers[1].choices
    assert answers[0].usage == answers[1].usage
    n_characters = len(server.served.tokenizer.encode("<|im_end|>"))
    assert n_characters > 1
    more = answers[2].usage.prompt_tokens - answers[0].usage.prompt_tokens
    assert more >= n_characters - 1  # it is text, not the one token that ends a turn
    developer, system = (
        client.chat.completions.create(
            model="tiny", messages=[{"role": role, "content": "Be kind."}, *USER], max_tokens=1
        ).usage.prompt_tokens
        for role in ("developer", "system")
    )
    assert developer == system


@pytest.mark.parametrize("kind", ["json_object", "json_schema"])
def test_an_answer_follows_a_schema(client: Any, kind: str) -> None:
    peer("llguidance")
    schema: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}}
    schema |= {"required": ["n"], "additionalProperties": False}
    form: dict[str, Any] = {"type": kind}
    if kind == "json_schema":
        form["json_schema"] = {"name": "number", "schema": schema, "strict": True}
    answer = client.chat.completions.create(
        model="tiny", messages=USER, max_tokens=60, seed=1, response_format=form
    )
    found = json.loads(answer.choices[0].message.content)
    assert isinstance(found, dict)
    assert kind == "json_object" or isinstance(found["n"], int)


def test_an_answer_ends_where_the_context_does(client: Any, server: Server) -> None:
    messages = [{"role": "user", "content": "ab" * 100}]
    settings: dict[str, Any] = {"model": "tiny", "messages": messages}
    settings["logit_bias"] = {str(index): -100 for index in server.served.model.stop_ids}
    free = client.chat.completions.create(**settings)
    assert free.choices[0].finish_reason == "length"
    assert free.usage.total_tokens == CONTEXT + 1  # the last token is not read
    assert client.chat.completions.create(**settings, max_tokens=10**6).usage == free.usage


def test_an_answer_ends_with_its_turn(client: Any) -> None:
    bias = {str(IDS["<|im_end|>"]): 100}
    for settings in ({}, {"stream": True}):
        answer = client.chat.completions.create(
            model="tiny", messages=USER, logit_bias=bias, **settings
        )
        if settings:
            (chunk,) = answer
            assert chunk.choices[0].delta.role == "assistant"
            assert chunk.choices[0].finish_reason == "stop"
        else:
            assert answer.choices[0].message.content == ""
            assert answer.choices[0].finish_reason == "stop"
            assert answer.usage.completion_tokens == 0


def test_harmless_values_of_other_parameters_are_taken(client: Any) -> None:
    client.chat.completions.create(
        model="tiny", messages=USER, max_tokens=1, n=1, user="me", tools=[], tool_choice="none",
        frequency_penalty=0, presence_penalty=0, store=False, modalities=["text"], logit_bias={},
        service_tier="auto", parallel_tool_calls=True, stop=None, top_p=1, metadata=None,
        response_format={"type": "text"}, safety_identifier="a", prompt_cache_key="b",
    )  # fmt: skip
    client.completions.create(
        model="tiny", prompt="a", max_tokens=1, best_of=1, echo=False, suffix=None
    )


def test_the_same_request_has_the_same_answer_among_others(client: Any) -> None:
    def text() -> str:
        found = client.completions.create(model="tiny", prompt="the", max_tokens=30, seed=6)
        return str(found.choices[0].text)

    alone = text()
    with client.completions.create(
        model="tiny", prompt="on the mat", max_tokens=200, stream=True, n=4
    ) as stream:
        next(stream)
        assert text() == alone


def test_health_and_metrics(server: Server) -> None:
    with urllib.request.urlopen(f"{server.url}/health") as answer:
        assert json.load(answer) == {"status": "ok", "model": "tiny"}
    with urllib.request.urlopen(f"{server.url}/metrics") as answer:
        assert answer.headers["content-type"].startswith("text/plain")
        assert "groundup_new_tokens_total" in answer.read().decode()
