"""A text is the same alone, in a batch, streamed, cached, and guessed by prompt lookup."""

import dataclasses
from typing import Any

import pytest
import torch

from groundup.generation.decoder import Decoder
from groundup.generation.engine import Engine, Handle
from groundup.generation.generate import generate, stream
from groundup.generation.request import Request, Sampling
from groundup.generation.sampler import Token
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "context_length": 64,
    "d_model": 24,
    "n_layers": 2,
    "n_heads": 4,
}
CONFIGS = {
    "ours": GPTConfig(**SIZES),
    "llama": GPTConfig.llama(**SIZES, n_kv_heads=2, d_ff=40),
    "n-grams": GPTConfig(**SIZES, ngram=3, ngram_rows=50),
    # The cache of a window is a ring; without the cache it is a mask.
    "window": GPTConfig(**SIZES, n_kv_heads=2, qk_norm=False, sliding_window=8),
}


def lively(config: GPTConfig, std: float = 0.3) -> GPT:
    """A model with large random weights, whose text depends on the whole prompt."""
    model = GPT(config).eval()
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        mean = 1.0 if parameter.ndim == 1 and not name.endswith("bias") else 0.0
        torch.nn.init.normal_(parameter, mean, std=std, generator=generator)
    return model


def prompt(n: int, seed: int = 0) -> list[int]:
    return torch.randint(60, (n,), generator=torch.Generator().manual_seed(seed)).tolist()


class Running:
    """An engine, and the tokens of every text so far."""

    def __init__(self, model: GPT, *, deterministic: bool = False, **settings: Any) -> None:
        self.engine = Engine(Decoder(model, deterministic=deterministic), **settings)
        self.tokens: dict[Handle, list[Token]] = {}

    def ask(self, ids: list[int], n_new: int, **settings: Any) -> Handle:
        names = Sampling.__dataclass_fields__.keys() & settings.keys()
        sampling = Sampling(**{name: settings.pop(name) for name in names})
        request = Request(ids=ids, max_new_tokens=n_new, sampling=sampling, **settings)
        return self.engine.submit(request)

    def step(self, n: int = 1) -> None:
        for _ in range(n):
            for event in self.engine.step():
                assert event.error is None
                self.tokens.setdefault(event.handle, []).extend(event.tokens)

    def run(self) -> "Running":
        while not self.engine.is_idle:
            self.step()
        return self

    def ids(self, handle: Handle) -> list[int]:
        return [token.id for token in self.tokens[handle]]


PROMPTS = [prompt(n, seed=n) for n in (1, 5, 17, 2, 30, 3, 9, 1)]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("temperature", [0, 0.4])
def test_batched_is_single_is_uncached(config: GPTConfig, temperature: float) -> None:
    model = lively(config)
    # Rows end at different steps, some early.
    stops = [
        generate(model, PROMPTS[row], 20, temperature=temperature, seed=7)[3 * row]
        for row in (1, 3, 5)
    ]
    settings: dict[str, Any] = {"temperature": temperature, "seed": 7, "stop_ids": stops}
    together = generate(model, PROMPTS, 20, **settings)
    for row, ids in zip(together, PROMPTS, strict=True):
        assert row == generate(model, ids, 20, **settings)
        assert row == generate(model, ids, 20, **settings, use_cache=False)
        assert row == list(stream(model, ids, 20, **settings))
    assert len({len(row) for row in together}) > 2


@pytest.mark.parametrize("max_rows", [1, 3, 16])
@pytest.mark.parametrize("n_kept_rows", [0, 2])
def test_a_seed_gives_one_text_whatever_else_runs(max_rows: int, n_kept_rows: int) -> None:
    model = lively(CONFIGS["ours"])
    alone = generate(model, PROMPTS[4], 25, seed=7)
    running = Running(model, max_rows=max_rows, n_kept_rows=n_kept_rows, prefill_chunk=7)
    asked = []
    for start in range(6):  # they join at different steps; later the prompt is cached
        asked.append(running.ask(PROMPTS[4], 25, seed=7))
        running.ask(PROMPTS[start], 3 + start, seed=start)
        running.step(8 * start)
    running.run()
    assert [running.ids(handle) for handle in asked] == [alone] * 6


def test_each_text_of_a_request_has_its_own_seed() -> None:
    model = lively(CONFIGS["ours"])
    running = Running(model)
    tokens: dict[int, list[int]] = {}
    running.ask(PROMPTS[1], 10, seed=7, n=3)
    while not running.engine.is_idle:
        for event in running.engine.step():
            tokens.setdefault(event.index, []).extend(token.id for token in event.tokens)
    assert [tokens[i] for i in range(3)] == [
        generate(model, PROMPTS[1], 10, seed=seed) for seed in (7, 8, 9)
    ]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("temperature", [0, 0.4])
def test_prompt_lookup_generates_the_same_tokens(config: GPTConfig, temperature: float) -> None:
    config = dataclasses.replace(config, context_length=256)
    model, ids = lively(config), prompt(6) * 4
    settings: dict[str, Any] = {"temperature": temperature, "seed": 3}
    plain = generate(model, ids, 200, **settings)
    assert generate(model, ids, 200, **settings, prompt_lookup=True) == plain
    assert generate(model, ids, 250, **settings, prompt_lookup=True)[:200] == plain, "it slides"
    stop = plain[len(plain) // 2]
    cut = plain[: plain.index(stop)]
    assert generate(model, ids, 200, **settings, prompt_lookup=True, stop_ids=[stop]) == cut


def test_prompt_lookup_reads_several_tokens_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, n_calls = lively(dataclasses.replace(CONFIGS["ours"], context_length=256), std=0.1), []
    for name in ("read", "step"):
        plain = getattr(Decoder, name)

        def counted(self, *args, plain=plain, **settings):
            n_calls.append(1)
            return plain(self, *args, **settings)

        monkeypatch.setattr(Decoder, name, counted)
    text = generate(model, prompt(6) * 4, 200, temperature=0, prompt_lookup=True)
    assert len(set(text[100:])) < 10, "the text repeats itself"
    assert len(n_calls) < 50


def test_prompt_lookup_ends_at_a_stop_string_and_at_the_end_of_the_context() -> None:
    model, ids = lively(CONFIGS["ours"]), prompt(6) * 4
    token_bytes = lambda i: b"<%d>" % i  # noqa: E731
    plain = generate(model, ids, 30, temperature=0)
    text = "".join(f"<{i}>" for i in plain)
    for stop in (text[40:47], text[60:63], "none of it"):
        for lookup in (False, True):
            engine = Engine(Decoder(model), token_bytes=token_bytes)
            request = Request(
                ids=ids,
                max_new_tokens=100,
                sampling=Sampling(temperature=0),
                stop=[stop],
                prompt_lookup=lookup,
            )
            engine.submit(request)
            events = []
            while not engine.is_idle:
                events += engine.step()
            found = "".join(event.text for event in events)
            if stop in text:
                assert found == text[: text.index(stop)]
                assert events[-1].finish_reason == "stop"
            else:
                assert events[-1].finish_reason == "length"
                assert sum(len(event.tokens) for event in events) == 64 - 24 + 1


def test_deterministic_log_probabilities_have_the_same_bits_among_others() -> None:
    model = lively(CONFIGS["llama"])

    def logprobs(n_others: int) -> list[float]:
        running = Running(model, deterministic=True, max_rows=16, prefill_chunk=8)
        for other in range(n_others // 2):
            running.ask(prompt(3 + other, seed=other), 10, seed=other)
        running.step(2)
        handle = running.ask(PROMPTS[2], 30, seed=7, logprobs=3)
        for other in range(n_others - n_others // 2):
            running.step()
            running.ask(prompt(20 - other, seed=other), 12, seed=other)
        running.run()
        return [t.logprobs.drawn for t in running.tokens[handle] if t.logprobs]

    alone = logprobs(0)
    assert len(alone) == 30
    assert logprobs(15) == alone
