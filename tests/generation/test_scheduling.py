"""The engine as a server uses it: joining, leaving, cancelling, and errors of one text only."""

import dataclasses
import math
import random
from typing import Any

import pytest
import torch

from groundup.base.errors import UserError
from groundup.generation.decoder import Decoder
from groundup.generation.engine import Engine, Event, Handle
from groundup.generation.generate import generate, stream
from groundup.generation.request import Request, Sampling
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT

CONFIG = GPTConfig(vocab_size=50, context_length=64, d_model=16, n_layers=1, n_heads=2)
MODEL = GPT(CONFIG, seed=3)
torch.nn.init.normal_(MODEL.head.weight, std=0.5, generator=torch.Generator().manual_seed(1))


def request(ids: list[int], n_new: int = 10, **settings: Any) -> Request:
    return Request(ids=ids, max_new_tokens=n_new, **settings)


def run(engine: Engine) -> list[Event]:
    events = []
    while not engine.is_idle:
        events += engine.step()
    return events


def text_of(events: list[Event], handle: object) -> list[int]:
    return [token.id for event in events if event.handle is handle for token in event.tokens]


def test_a_cancelled_text_ends_at_the_next_step_and_gives_its_memory_back() -> None:
    engine = Engine(Decoder(MODEL), max_rows=2)
    handles = [engine.submit(request([1, 2], 50)) for _ in range(3)]
    engine.step()
    assert (engine.n_running, engine.n_waiting) == (2, 1)
    n_bytes = engine.decoder.n_bytes
    for handle in handles:  # one that is generated, one that is about to end, one that waits
        handle.cancel()
    events = engine.step()
    assert [event.finish_reason for event in events] == ["cancelled"] * 3
    assert engine.is_idle
    assert all(handle.is_finished for handle in handles)
    engine.submit(request([1], 1))
    run(engine)
    assert engine.decoder.n_bytes < n_bytes


def test_a_long_prompt_is_read_in_parts_between_the_tokens_of_others() -> None:
    engine = Engine(Decoder(MODEL), prefill_chunk=8)
    first = engine.submit(request([1], 30))
    engine.step()
    long = engine.submit(request([i % 50 for i in range(60)], 2))
    before = 0
    while True:
        events = engine.step()
        assert any(event.handle is first and len(event.tokens) == 1 for event in events)
        if any(event.handle is long for event in events):
            break
        before += 1
    assert before == math.ceil(60 / 8) - 1


def test_one_bad_text_does_not_affect_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = generate(MODEL, [1, 2, 3], 10, seed=1)
    engine = Engine(Decoder(MODEL), max_rows=4)
    good = engine.submit(request([1, 2, 3], sampling=Sampling(seed=1)))
    none_left = dict.fromkeys(range(50), -math.inf)
    bad = engine.submit(request([4, 5], sampling=Sampling(logit_bias=none_left)))
    with pytest.raises(UserError, match="vocabulary ends at 49"):
        engine.submit(request([50]))
    with pytest.raises(UserError, match="prompt has 65 tokens"):
        engine.submit(request([1] * 65))
    events = run(engine)
    ended = [event for event in events if event.handle is bad]
    assert [event.finish_reason for event in ended] == ["error"]
    assert "exclude every token" in str(ended[0].error)
    assert text_of(events, good) == alone

    def fails(self: Decoder, ids: list[int], row: Any, **settings: Any) -> Any:
        if ids[0] == 7:
            raise RuntimeError("out of memory")
        return read(self, ids, row, **settings)

    read = Decoder.read
    monkeypatch.setattr(Decoder, "read", fails)
    good = engine.submit(request([1, 2, 3], sampling=Sampling(seed=1)))
    bad = engine.submit(request([7, 7]))
    events = run(engine)
    assert [e.finish_reason for e in events if e.handle is bad] == ["error"]
    assert text_of(events, good) == alone


def test_a_step_that_fails_ends_the_texts_that_it_reads_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine(Decoder(MODEL), prefill_chunk=4)
    writing = [engine.submit(request([i, 2], 20)) for i in range(2)]
    engine.step()
    reading = engine.submit(request(list(range(10)), 5, sampling=Sampling(temperature=0)))
    step, calls = Decoder.step, iter(range(1000))

    def fails_once(self: Decoder, *args: Any) -> Any:
        if next(calls) == 0:
            raise MemoryError("no memory")
        return step(self, *args)

    monkeypatch.setattr(Decoder, "step", fails_once)
    events = engine.step()
    ended = [event for event in events if event.finish_reason is not None]
    assert [event.handle for event in ended] == writing
    assert all(isinstance(event.error, MemoryError) for event in ended)
    later = engine.submit(request([5, 6], 5, sampling=Sampling(temperature=0)))
    events = run(engine)
    expected = [(reading, list(range(10))), (later, [5, 6])]
    for handle, ids in expected:
        assert text_of(events, handle) == generate(MODEL, ids, 5, temperature=0)


@pytest.mark.parametrize("name", ["new_row", "make_room"])
def test_texts_without_memory_end_as_they_join(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def fails(*_: Any) -> None:
        raise MemoryError("no memory")

    engine = Engine(Decoder(MODEL))
    writing = engine.submit(request([1, 2], 5))
    events = engine.step()
    with monkeypatch.context() as patched:
        patched.setattr(Decoder, name, fails)
        joining = [engine.submit(request([3, i], 5)) for i in range(2)]
        found = engine.step()
    assert [event.handle for event in found if event.finish_reason == "error"] == joining
    events += found + run(engine)
    assert len(text_of(events, writing)) == 5


def test_finish_reasons() -> None:
    text = generate(MODEL, [1, 2], 60, temperature=0)

    def reason(**settings: Any) -> tuple[str | None, int]:
        engine = Engine(Decoder(MODEL), token_bytes=lambda i: b"<%d>" % i)
        settings = {"ids": [1, 2], "max_new_tokens": 5, **settings}
        engine.submit(Request(sampling=Sampling(temperature=0), **settings))
        events = run(engine)
        return events[-1].finish_reason, sum(len(event.tokens) for event in events)

    assert reason() == ("length", 5)
    assert reason(max_new_tokens=0) == ("length", 0)
    n = text.index(text[3])
    assert reason(stop_ids=[text[3]]) == ("stop", n)
    assert reason(stop=[f"<{text[3]}>"]) == ("stop", n + 1)
    assert reason(max_new_tokens=500) == ("length", 63), "the end of the context"
    assert reason(ids=[1] * 64, max_new_tokens=500) == ("length", 1)
    assert reason(max_new_tokens=100, slide=True) == ("length", 100)


def test_events_have_the_text_that_is_certain_and_a_prompt_does_not_count() -> None:
    ids = generate(MODEL, [1, 2], 20, temperature=3.0, seed=2)
    assert ids[0] not in [*ids[1:], 1, 2], "one token of its own is hidden"
    names = {i: b"t%d " % i for i in range(50)} | {1: b"stop", 2: b"stop", ids[9]: b"a stop"}
    whole = b"".join(names[i] for i in ids).decode()
    engine = Engine(Decoder(MODEL), token_bytes=names.__getitem__, hidden_ids=[ids[0]])
    engine.submit(request([1, 2], 20, sampling=Sampling(temperature=3.0, seed=2), stop=["stop"]))
    text = "".join(event.text for event in run(engine))
    hidden = names[ids[0]].decode()
    assert text == whole.replace(hidden, "").partition("stop")[0]
    assert text.count(" ") > 2
    with pytest.raises(UserError, match="Stop strings"):
        Engine(Decoder(MODEL)).submit(request([1], stop=["x"]))


def test_a_prompt_that_begins_like_an_ended_text_is_not_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    n_read: list[int] = []
    read = Decoder.read

    def counted(self: Decoder, ids: list[int], row: Any, **settings: Any) -> Any:
        n_read.append(len(ids))
        return read(self, ids, row, **settings)

    monkeypatch.setattr(Decoder, "read", counted)
    engine = Engine(Decoder(MODEL), n_kept_rows=1)
    question = [i % 50 for i in range(30)]
    engine.submit(request(question, 5))
    answer = text_of(run(engine), engine.submit(request(question, 0)))  # no tokens
    assert answer == []
    assert n_read == [30]
    engine.submit(request([*question[:25], 49, 48], 5, sampling=Sampling(temperature=0)))
    events = run(engine)
    assert n_read == [30, 2]
    assert [token.id for event in events for token in event.tokens] == generate(
        MODEL, [*question[:25], 49, 48], 5, temperature=0
    )


def test_requests_are_answered_in_order_and_leave_nothing_behind() -> None:
    engine = Engine(Decoder(MODEL), max_rows=3)
    handles = [engine.submit(request([i], 1 + i % 3, n=2)) for i in range(20)]
    ended: list[object] = []
    sizes = []
    while not engine.is_idle:
        for event in engine.step():
            if event.finish_reason and event.handle.is_finished:
                ended.append(event.handle)
        assert engine.n_running <= 3
        sizes.append(engine.decoder.n_bytes)
    assert [handle for handle in handles if handle in ended] == handles
    assert max(sizes[5:]) == max(sizes[:5]), "memory does not grow"


def test_a_conversation_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    n_read: list[int] = []
    read = Decoder.read

    def counted(self: Decoder, ids: list[int], row: Any, **settings: Any) -> Any:
        n_read.append(len(ids))
        return read(self, ids, row, **settings)

    monkeypatch.setattr(Decoder, "read", counted)
    engine = Engine(Decoder(MODEL), n_kept_rows=1)
    ids = [i % 50 for i in range(20)]
    first = list(stream(engine, ids, 5, seed=1))
    partial = stream(engine, [*ids, *first, 7, 8], 20, seed=2)
    next(partial)
    partial.close()  # type: ignore[attr-defined]  # the reader has left
    last = list(stream(engine, [*ids, *first, 9, 9, 9], 5, seed=3))
    # The last token of an answer was drawn and not read; a single token is a step.
    assert n_read == [20, 3, 3]
    assert last == generate(MODEL, [*ids, *first, 9, 9, 9], 5, seed=3)
    assert engine.is_idle


def test_a_short_prompt_does_not_wait_for_long_ones() -> None:
    config = dataclasses.replace(CONFIG, context_length=8192)
    engine = Engine(Decoder(GPT(config)))
    writing = engine.submit(request([1], 200))
    engine.step()
    long = [engine.submit(request([i % 50 for i in range(8000)], 2)) for _ in range(3)]
    for _ in range(5):
        engine.step()
    short = engine.submit(request([1, 2, 3], 5))
    ended = []
    for step in range(16):
        events = engine.step()
        assert any(event.handle is writing for event in events)
        ended += [step for event in events if event.handle is short]
        if step == 7:
            long[0].cancel()
    assert ended == [3, 4, 5, 6, 7], "one part of each long prompt comes first"
    assert [sequence.row.length for handle in long[1:] for sequence in handle.sequences] == [
        pytest.approx(128 * 21 / 3, abs=3 * 128) for _ in range(2)
    ]


def test_memory_stays_below_the_limit_and_texts_wait_for_it() -> None:
    config = dataclasses.replace(CONFIG, context_length=400)
    decoder, generator = Decoder(GPT(config)), random.Random(1)
    limit = 3 * decoder.row_bytes(400) + 100
    engine = Engine(decoder, max_rows=20, max_cache_bytes=limit, n_kept_rows=2)
    asked = [(generator.randrange(1, 200), generator.randrange(1, 90)) for _ in range(20)]
    handles: list[Handle] = []
    most = 0
    while len(handles) < len(asked) or not engine.is_idle:
        if len(handles) < len(asked) and (engine.is_idle or generator.random() < 0.2):
            n_prompt, n_new = asked[len(handles)]
            handles.append(engine.submit(request([7] * n_prompt, n_new)))
            if len(handles) % 5 == 0:
                handles[-1].cancel()
        engine.step()
        most = max(most, engine.n_running)
        assert engine.decoder.n_bytes <= limit
        assert engine.reserved_bytes <= limit
    assert most > 4
    for handle, (_, n_new) in zip(handles, asked, strict=True):
        sequence = handle.sequences[0]
        assert sequence.finish_reason == ("cancelled" if handle.ended_as else "length")
        assert handle.ended_as or sequence.n_left == 0, n_new
    small = Engine(decoder, max_cache_bytes=decoder.row_bytes(200))
    small.submit(request([1] * 100, 100))
    with pytest.raises(UserError, match="an answer of 5,000 need"):
        small.submit(request([1], 5000))
