"""Sliding windows: every way of computing them equals the formula."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from groundup.base.config import from_mapping, to_mapping
from groundup.base.errors import UserError
from groundup.generation.cache import KVCache
from groundup.inspection.capture import capture
from groundup.model.attention import (
    attention_blocks,
    attention_formula,
    attention_fused,
    causal_mask,
)
from groundup.model.config import GPTConfig
from groundup.model.count import forward_flops_per_token
from groundup.model.gpt import GPT
from groundup.model.multi_head import MultiHeadAttention
from groundup.reference import attention as reference

SMALL: dict[str, Any] = {
    "vocab_size": 31, "context_length": 24, "d_model": 16, "n_layers": 3, "n_heads": 4,
    "n_kv_heads": 2,
}  # fmt: skip


def random_qkv(n_queries: int, n_keys: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    shapes = ((2, 4, n_queries, 8), (2, 2, n_keys, 8), (2, 2, n_keys, 8))
    return tuple(
        torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes
    )


@pytest.mark.parametrize("window", [1, 3, 7, 8, 100])
@pytest.mark.parametrize(("n_queries", "n_keys"), [(7, 7), (3, 7), (1, 7), (1, 1)])
def test_fused_equals_formula_and_numpy(n_queries: int, n_keys: int, window: int) -> None:
    results = []
    for attend in (attention_formula, attention_fused):
        tensors = random_qkv(n_queries, n_keys)
        mixed = attend(*tensors, window=window)
        (mixed * torch.linspace(-1, 1, mixed.numel()).view_as(mixed)).sum().backward()
        results.append((mixed.detach(), *(x.grad for x in tensors)))
    for formula, fused in zip(*results, strict=True):
        torch.testing.assert_close(fused, formula, rtol=1e-10, atol=1e-10)
    q, k, v = (x.detach().numpy() for x in random_qkv(n_queries, n_keys))
    plain = reference.attention(q, k, v, window)
    np.testing.assert_allclose(results[1][0].numpy(), plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("block", [1, 2, 3, 100])
@pytest.mark.parametrize("window", [1, 2, 4])
def test_blocks_equal_formula_in_values_and_gradients(block: int, window: int) -> None:
    results = []
    for attend in (attention_formula, partial(attention_blocks, block=block)):
        tensors = random_qkv(9, 9)
        mixed = attend(*tensors, window=window)
        (mixed * torch.linspace(-1, 1, mixed.numel()).view_as(mixed)).sum().backward()
        results.append((mixed.detach(), *(x.grad for x in tensors)))
    for formula, blocks in zip(*results, strict=True):
        torch.testing.assert_close(blocks, formula, rtol=1e-10, atol=1e-10)


def model_with(**changes: Any) -> GPT:
    model = GPT(GPTConfig(**{**SMALL, "init": "torch", "tie_embeddings": False, **changes}), seed=4)
    return model.eval()


def test_only_the_chosen_layers_slide() -> None:
    config = GPTConfig(**SMALL, sliding_window=4, sliding_layers=(0, 2))
    assert [config.window_of(layer) for layer in range(3)] == [4, None, 4]
    last = config.with_layers(2, first=1)
    assert [last.window_of(layer) for layer in range(2)] == [None, 4]
    attention = capture(GPT(config), list(range(12))).attention
    seen = [int((attention[layer, 0, 11] > 0).sum()) for layer in range(3)]
    assert seen == [4, 12, 4]


def test_a_cache_gives_the_logits_of_the_mask() -> None:
    model = model_with(sliding_window=5)
    ids = torch.randint(31, (2, 20), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        whole = model(ids)
        cache = KVCache(model.config, batch_size=2)
        parts = [model(ids[:, a:b], cache=cache) for a, b in ((0, 7), (7, 8), (8, 15), (15, 20))]
        unlimited = model_with()(ids)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(whole[:, :5], unlimited[:, :5], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(whole[:, 5:], unlimited[:, 5:], atol=1e-3)


def test_a_mask_is_combined_with_the_window() -> None:
    layer = MultiHeadAttention(8, 2, window=2)
    x = torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(0))
    given = torch.ones(6, 6, dtype=torch.bool)
    torch.testing.assert_close(layer(x, mask=given), layer(x))
    with pytest.raises(UserError, match="causal=True is expected"):
        MultiHeadAttention(8, 2, window=2, causal=False)


def test_the_window_saves_flops() -> None:
    whole, window = (
        forward_flops_per_token(GPTConfig(**SMALL, sliding_window=w)) for w in (None, 6)
    )
    pairs = int(causal_mask(24, 24).sum() - causal_mask(24, 24, window=6).sum())
    assert whole - window == 4 * 3 * 16 * pairs // 24


def test_a_config_is_stored_and_read_and_an_old_one_is_unchanged() -> None:
    config = GPTConfig(**SMALL, sliding_window=4, sliding_layers=(0, 2))
    assert from_mapping(GPTConfig, to_mapping(config)) == config
    assert (
        not {"sliding_window", "sliding_layers", "rotary_scaling"} & to_mapping(GPTConfig()).keys()
    )


@pytest.mark.parametrize(
    "wrong",
    [{"sliding_layers": (0,)}, {"sliding_window": 4, "sliding_layers": (3,)}],
)
def test_layers_without_a_window_or_beyond_the_last_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="a sliding_window are expected"):
        GPTConfig(**SMALL, **wrong)
