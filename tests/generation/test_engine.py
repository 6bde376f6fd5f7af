"""Generation with and without the cache, beyond the context length, and up to a stop id."""

import logging

import pytest
import torch

from groundup.base.errors import UserError
from groundup.generation.cache import KVCache
from groundup.generation.generate import generate, stream, window_start
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT

CONFIGS = [
    GPTConfig(
        vocab_size=50, context_length=16, d_model=24, n_layers=2, n_heads=4, tie_embeddings=False
    ),
    GPTConfig(
        vocab_size=50, context_length=16, d_model=24, n_layers=2, n_heads=4, n_kv_heads=2,
        qk_norm=False, rotary_layout="interleaved", tie_embeddings=False,
    ),
    GPTConfig(
        vocab_size=50, context_length=16, d_model=24, n_layers=2, n_heads=4, norm="layer",
        positions="learned", qk_norm=False, activation="gelu", bias=True, qkv_bias=True,
        tie_embeddings=False,
    ),
]  # fmt: skip


def lively(config: GPTConfig) -> GPT:
    """A model with large random weights, whose text depends on the whole prompt."""
    model = GPT(config)
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        mean = 1.0 if parameter.ndim == 1 and not name.endswith("bias") else 0.0
        torch.nn.init.normal_(parameter, mean, std=0.3, generator=generator)
    return model


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("n_prompt", [1, 5, 16, 23])
def test_greedy_text_is_the_same_with_and_without_the_cache(
    config: GPTConfig, n_prompt: int
) -> None:
    model, prompt = lively(config), [i * 7 % 50 for i in range(n_prompt)]
    cached = generate(model, prompt, 40, temperature=0, use_cache=True)
    computed = generate(model, prompt, 40, temperature=0, use_cache=False)
    assert len(cached) == 40
    assert cached == computed
    # Greedy text soon repeats itself; sampled text covers more of the vocabulary.
    cached, computed = (generate(model, prompt, 40, use_cache=use) for use in (True, False))
    assert cached == computed
    assert len(set(cached)) > 5


@pytest.mark.parametrize("config", CONFIGS)
def test_cached_logits_equal_those_of_the_whole_text(config: GPTConfig) -> None:
    model = lively(config).eval()
    ids = torch.randint(50, (2, 16), generator=torch.Generator().manual_seed(1))
    whole = model(ids)
    cache = KVCache(config, batch_size=2)
    parts = [model(ids[:, a:b], cache=cache) for a, b in ((0, 6), (6, 7), (7, 12), (12, 16))]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-4)
    assert cache.length == 16
    with pytest.raises(UserError, match="do not fit"):
        model(ids[:, :1], cache=cache)


def test_greedy_takes_the_most_likely_token() -> None:
    model, tokens = lively(CONFIGS[0]).eval(), [1, 2]
    for _ in range(6):
        tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    assert generate(model, [1, 2], 6, temperature=0) == tokens[2:]


def test_the_seed_fixes_the_text_and_the_global_state_is_left_alone() -> None:
    model = lively(CONFIGS[0])
    state = torch.random.get_rng_state()
    texts = [generate(model, [3], 20, temperature=2.0, seed=s) for s in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_stop_id_ends_the_text_and_is_not_part_of_it() -> None:
    model = lively(CONFIGS[0])
    text = generate(model, [3], 20, temperature=0)
    stop = text[4]
    assert generate(model, [3], 20, temperature=0, stop_ids=[stop]) == text[: text.index(stop)]


def test_stream_yields_what_generate_returns_and_keeps_the_training_mode() -> None:
    model = lively(CONFIGS[0]).train()
    pieces = []
    for token in stream(model, [3], 5, seed=4):
        pieces.append(token)
        assert model.training
    assert pieces == generate(model, [3], 5, seed=4)


def test_the_window_holds_at_most_the_context_and_moves_in_steps() -> None:
    starts = [window_start(n, 16) for n in range(1, 60)]
    assert all(0 < n - s <= 16 for n, s in enumerate(starts, start=1))
    assert all(n - s > 12 for n, s in enumerate(starts, start=1) if n > 16)
    assert starts == sorted(starts)
    assert set(starts) == set(range(0, 48, 4))


def test_a_text_longer_than_the_context_gives_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    model = lively(CONFIGS[0])
    with caplog.at_level(logging.WARNING):
        generate(model, [1] * 10, 6)
        assert not caplog.records
        generate(model, [1] * 10, 30)
    assert len(caplog.records) == 1
    assert "do not fit in a context of 16" in caplog.text


def test_a_long_prompt_is_read_from_its_window() -> None:
    model, prompt = lively(CONFIGS[0]), [i % 50 for i in range(40)]
    start = window_start(40, 16)
    assert generate(model, prompt, 1, temperature=0) == generate(
        model, prompt[start:], 1, temperature=0
    )


@pytest.mark.parametrize(
    ("ids", "settings", "said"),
    [
        ([], {}, "prompt has no tokens"),
        ([50], {}, "vocabulary ends at 49"),
        ([-1], {}, "token id -1"),
        ([1], {"top_p": 2.0}, "top_p"),
        ([1], {"max_new_tokens": -1}, "max_new_tokens"),
    ],
)
def test_bad_input_is_refused_at_the_call(
    ids: list[int], settings: dict[str, float], said: str
) -> None:
    arguments = {"max_new_tokens": 3, **settings}
    with pytest.raises(UserError, match=said):
        stream(GPT(CONFIGS[0]), ids, **arguments)  # type: ignore[arg-type]


def test_zero_new_tokens_are_none() -> None:
    assert generate(GPT(CONFIGS[0]), [1], 0) == []
