"""The fused path equals the formula, the formula equals NumPy, and rotary embeddings are right."""

from functools import partial
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from groundup.model.attention import (
    attention_blocks,
    attention_formula,
    attention_fused,
    attention_weights,
    causal_mask,
)
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.model.rotary import rotary_tables, rotate
from groundup.reference import attention as reference

RotaryLayout = Literal["half", "interleaved"]


def random_qkv(
    B: int, H: int, G: int, T: int, S: int, D: int, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((B, H, T, D), (B, G, S, D), (B, G, S, D))
    q, k, v = (
        torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes
    )
    return q, k, v


# Multi-head; grouped; one key head; 5 cached positions; a single query; a single token.
SHAPES = [
    (2, 4, 4, 7, 7, 8),
    (2, 4, 2, 7, 7, 8),
    (1, 6, 1, 5, 5, 4),
    (2, 4, 2, 3, 8, 8),
    (2, 4, 2, 1, 8, 8),
    (1, 2, 2, 1, 1, 4),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_fused_equals_formula_in_values_and_gradients(
    shape: tuple[int, int, int, int, int, int],
) -> None:
    results = []
    for attend in (attention_formula, attention_fused):
        q, k, v = random_qkv(*shape)
        mixed = attend(q, k, v)
        weight = torch.linspace(-1, 1, mixed.numel(), dtype=torch.float64).view_as(mixed)
        (mixed * weight).sum().backward()
        results.append((mixed, q.grad, k.grad, v.grad))
    for formula, fused in zip(*results, strict=True):
        torch.testing.assert_close(fused, formula, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("block", [1, 2, 3, 100])
def test_blocks_equal_formula_in_values_and_gradients(block: int) -> None:
    results = []
    for attend in (attention_formula, partial(attention_blocks, block=block)):
        q, k, v = random_qkv(2, 4, 2, 5, 5, 4)
        mixed = attend(q, k, v)
        (mixed * torch.linspace(-1, 1, mixed.numel()).view_as(mixed)).sum().backward()
        results.append((mixed, q.grad, k.grad, v.grad))
    for formula, blocks in zip(*results, strict=True):
        torch.testing.assert_close(blocks, formula, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradients_of_blocks_are_those_of_small_changes(window: int | None, dropout: float) -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        torch.manual_seed(1)
        first = torch.tensor([[0, 0, 0, 2, 2]])
        return attention_blocks(
            q, k, v, visible_from=first, window=window, dropout=dropout, block=2
        )

    assert torch.autograd.gradcheck(attend, random_qkv(1, 2, 1, 5, 5, 2))


def test_bfloat16_blocks_on_a_cpu_stay_near_the_formula() -> None:
    q, k, v = (x.detach() for x in random_qkv(2, 3, 3, 70, 70, 8))
    low = attention_fused(q.bfloat16(), k.bfloat16(), v.bfloat16())
    torch.testing.assert_close(low.double(), attention_formula(q, k, v), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("shape", SHAPES)
def test_formula_equals_numpy(shape: tuple[int, int, int, int, int, int]) -> None:
    q, k, v = (x.detach() for x in random_qkv(*shape))
    ours = attention_formula(q, k, v).numpy()
    theirs = reference.attention(q.numpy(), k.numpy(), v.numpy())
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_the_future_changes_nothing() -> None:
    q, k, v = (x.detach() for x in random_qkv(1, 2, 2, 6, 6, 4))
    before = attention_fused(q, k, v)
    k[:, :, 4:] += 100.0
    v[:, :, 4:] -= 100.0
    after = attention_fused(q, k, v)
    assert torch.equal(before[:, :, :4], after[:, :, :4])
    assert not torch.allclose(before[:, :, 4:], after[:, :, 4:])


def test_weights_sum_to_one_and_the_mask_is_exact() -> None:
    q, k, _ = random_qkv(1, 2, 1, 3, 5, 4)
    weights = attention_weights(q, k)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2, 3, dtype=torch.float64))
    assert (weights[:, :, ~causal_mask(3, 5)] == 0).all()


@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_rotation_equals_the_reference(layout: str) -> None:
    x = torch.randn(2, 5, 3, 8, generator=torch.Generator().manual_seed(1))
    tables = rotary_tables(5, 8, 10_000.0, layout)  # type: ignore[arg-type]
    ours = rotate(x.transpose(1, 2), *tables, layout).transpose(1, 2).numpy()  # type: ignore[arg-type]
    theirs = reference.rotate(x.numpy(), base=10_000.0, layout=layout)  # type: ignore[arg-type]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    a=st.integers(0, 20),
    b=st.integers(0, 20),
    shift=st.integers(0, 40),
    layout=st.sampled_from(["half", "interleaved"]),
)
def test_a_score_depends_only_on_the_distance(
    a: int, b: int, shift: int, layout: RotaryLayout
) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 8, generator=generator)
    cos, sin = rotary_tables(64, 8, 10_000.0, layout)

    def rotated(x: Tensor, position: int) -> Tensor:
        at = slice(position, position + 1)
        return rotate(x.view(1, 8), cos[at], sin[at], layout).flatten()  # type: ignore[arg-type]

    near = rotated(query, a) @ rotated(key, b)
    far = rotated(query, a + shift) @ rotated(key, b + shift)
    torch.testing.assert_close(near, far, rtol=1e-4, atol=1e-4)
    assert torch.isclose(rotated(query, a).norm(), query.norm(), rtol=1e-5)


def test_the_layouts_are_permutations_of_each_other() -> None:
    x = torch.randn(1, 2, 6, 8, generator=torch.Generator().manual_seed(2))
    order = torch.cat((torch.arange(0, 8, 2), torch.arange(1, 8, 2)))
    pairs, halves = (rotary_tables(6, 8, 10_000.0, kind) for kind in ("interleaved", "half"))
    torch.testing.assert_close(
        rotate(x, *pairs, "interleaved")[..., order], rotate(x[..., order], *halves, "half")
    )


@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize("n_kv_heads", [1, 4])
@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_heads_that_look_back_look_one_two_three_back(
    layout: RotaryLayout, n_kv_heads: int, norm: Literal["layer", "rms"]
) -> None:
    config = GPTConfig(
        d_model=64, n_heads=4, n_kv_heads=n_kv_heads, d_head=32, norm=norm, qk_gain=2.0,
        rotary_layout=layout, rotary_base=200.0, qkv_bias=True, look_back=True,
    )  # fmt: skip
    model = GPT(config)
    T = 24
    ids = torch.randint(config.vocab_size, (1, T), generator=torch.Generator().manual_seed(3))
    block: Any = model.blocks[0]
    rotary = model.rotary.cos[:T], model.rotary.sin[:T]
    normed = block.attention_norm(model.token_embedding(ids))
    queries, keys, _ = block.attention.project(normed, rotary)
    weights = attention_weights(queries, keys)[0]  # (H, T, S)
    for head in range(4):
        back = torch.arange(4, T) - weights[head, 4:].argmax(dim=-1)
        assert (back == head + 1).float().mean() > 0.9  # a few tokens outweigh the biases
        assert weights[head, 4:].max(dim=-1).values.mean() > 0.5
    output = block.attention(normed, rotary)
    assert 0.5 < output[0, 4:].std() < 2.0  # the scale of the tokens, from the first step on
