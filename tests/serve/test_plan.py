"""The plan of a server: what it predicts, and what the server then does."""

import asyncio
import dataclasses
import time
from statistics import median

import pytest
import torch
from decoder_models import CONFIGS, lively, text

from groundup.base.errors import UserError
from groundup.generation.decoder import Decoder
from groundup.generation.engine import Engine
from groundup.generation.request import Request
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.serve.plan import Plan, StepTime, make_plan
from groundup.serve.worker import Worker

LONG = dataclasses.replace(CONFIGS["ours"], context_length=1000)


def test_as_many_requests_fit_as_the_plan_says_and_each_needs_the_memory() -> None:
    decoder = Decoder(lively(LONG))
    engine = Engine(decoder, max_rows=16, max_cache_bytes=int(5.5 * decoder.row_bytes(300)))
    plan = make_plan(engine, n_prompt=100, n_new=200)
    assert decoder.n_bytes == 0, "the probe leaves nothing behind"
    assert plan.n_rows == (1, 4, 5)
    for seed in range(8):
        engine.submit(Request(ids=text(100, seed), max_new_tokens=200))
    for _ in range(20):
        engine.step()
    assert engine.n_running == plan.n_fit == 5
    assert decoder.n_bytes == 5 * plan.request_bytes


def test_the_plan_of_a_short_context_halves_it_and_too_little_memory_is_refused() -> None:
    decoder = Decoder(lively(CONFIGS["ours"]))
    plan = make_plan(Engine(decoder, max_rows=2))
    assert (plan.n_prompt, plan.n_new, plan.n_fit) == (24, 24, 2)
    window = dataclasses.replace(CONFIGS["window"], context_length=500)
    assert make_plan(Engine(Decoder(lively(window)), max_rows=2)).n_fit == 2
    delta = dataclasses.replace(CONFIGS["delta rule"], context_length=500)
    assert make_plan(Engine(Decoder(lively(delta)), max_rows=2)).n_fit == 2
    with pytest.raises(UserError, match=r"24 \+ 24 tokens needs .* More memory is expected"):
        make_plan(Engine(decoder, max_cache_bytes=1000))


def test_speeds_between_the_measured_ones_lie_on_a_line() -> None:
    plan = Plan(
        n_prompt=100,
        n_new=101,
        reads=((10, 0.1), (100, 0.5)),
        steps=(
            StepTime(1, 0, 0.1), StepTime(1, 200, 0.1),
            StepTime(4, 0, 0.1), StepTime(4, 200, 0.2),
        ),
        request_bytes=1,
        cache_bytes=8,
        n_fit=8,
        probe_s=1.0,
    )  # fmt: skip
    assert plan.n_rows == (1, 4)
    assert [plan.step_s(n, 200) for n in (1, 2, 4, 7)] == pytest.approx(
        [0.1, 0.1 + 0.1 / 3, 0.2, 0.3]
    )
    assert plan.step_s(4, 100) == pytest.approx(0.15)
    assert plan.first_token_s(55) == pytest.approx(0.3)
    assert plan.total_tokens_per_s(4, 100, 200) == pytest.approx(4 * 200 / (4 * 0.5 + 199 * 0.2))
    slower = dataclasses.replace(plan, token_s=0.01)
    assert slower.step_s(4, 100) == pytest.approx(0.15 + 4 * 0.01)
    assert slower.first_token_s(55) == pytest.approx(0.31)
    assert plan.total_tokens_per_s(50) == plan.total_tokens_per_s(8)


@pytest.mark.long
def test_the_server_does_what_was_predicted_within_15_percent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Processor time of one thread: other programs do not change it.
    monkeypatch.setattr("groundup.serve.plan.time.perf_counter", time.process_time)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    config = GPTConfig.llama(
        vocab_size=8000, context_length=512, d_model=512, n_layers=8, n_heads=8, n_kv_heads=2,
        d_ff=1408,
    )  # fmt: skip
    engine = Engine(Decoder(GPT(config, seed=1)), max_rows=8)
    ratios: dict[str, list[float]] = {"1": [], "8": [], "first token": []}

    async def client(worker: Worker, seed: int, n_new: int) -> int:
        asked = Request(ids=text(128, seed), max_new_tokens=n_new)
        events = [event async for event in worker.generate(asked)]
        return sum(len(event.tokens) for event in events)

    async def measured_s(worker: Worker, n_clients: int, n_new: int) -> float:
        began_at = time.process_time()
        await asyncio.gather(*(client(worker, seed, n_new) for seed in range(n_clients)))
        return time.process_time() - began_at

    for _ in range(3):
        plan = make_plan(engine, n_prompt=128, n_new=128)
        worker = Worker(engine)
        worker.start()
        for n in (1, 8):
            speed = n * 128 / asyncio.run(measured_s(worker, n, 128))
            ratios[str(n)].append(plan.total_tokens_per_s(n) / speed)
        ratios["first token"].append(plan.first_token_s() / asyncio.run(measured_s(worker, 1, 1)))
        worker.stop(0)
    torch.set_num_threads(n_threads)
    for name, values in ratios.items():
        assert 0.85 <= median(values) <= 1.15, (name, values)
