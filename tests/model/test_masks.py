"""Attention with a mask, with other widths, and over any leading dimensions, by the formula."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from groundup.base.errors import UserError
from groundup.model.attention import attention_formula, scaled_dot_product_attention
from groundup.model.multi_head import MultiHeadAttention
from groundup.model.rotary import RotaryEmbedding


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def formula(q: Any, k: Any, v: Any, mask: Any) -> Any:
    """Attention as in the paper, in NumPy; a row without a key is zero."""
    scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    powers = np.where(mask, np.exp(scores), 0.0)
    return powers / np.maximum(powers.sum(-1, keepdims=True), 1e-300) @ v


@pytest.mark.parametrize("leading", [(), (2,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("causal", [False, True])
def test_any_leading_dimensions_and_masks(leading: tuple[int, ...], causal: bool) -> None:
    q, k, v = random(*leading, 4, 5), random(*leading, 6, 5, seed=1), random(*leading, 6, 7, seed=2)
    generator = torch.Generator().manual_seed(3)
    triangle = np.tri(4, 6, k=2, dtype=bool) if causal else np.ones((4, 6), dtype=bool)
    masks = [None, torch.rand(4, 6, generator=generator) < 0.5]
    masks.append(torch.rand(*leading, 4, 6, generator=generator) < 0.5)
    with_empty_row = torch.rand(*leading, 4, 6, generator=generator) < 0.5
    with_empty_row[..., 1, :] = False
    masks.append(with_empty_row)
    for mask in masks:
        visible = triangle if mask is None else mask.numpy() & triangle
        found = scaled_dot_product_attention(q, k, v, mask, causal=causal)
        np.testing.assert_allclose(
            found.numpy(), formula(q.numpy(), k.numpy(), v.numpy(), visible), atol=1e-12
        )


def test_causal_without_a_mask_is_the_formula_of_the_model() -> None:
    q, k, v = random(2, 4, 5, 8), random(2, 2, 5, 8, seed=1), random(2, 2, 5, 8, seed=2)
    found = scaled_dot_product_attention(q, k, v, causal=True)
    torch.testing.assert_close(found, attention_formula(q, k, v))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_a_mask_of_numbers_is_refused(dtype: torch.dtype) -> None:
    x = torch.ones(3, 2)
    with pytest.raises(UserError, match="boolean mask is expected"):
        scaled_dot_product_attention(x, x, x, torch.ones(3, 3, dtype=dtype))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_the_layer_equals_torch_with_own_widths(causal: bool, masked: bool) -> None:
    """Own input and output widths, a mask per text; torch's layer has the same input and output."""
    T, H = 5, 2
    layer = MultiHeadAttention(6, H, d_out=8, causal=causal, qkv_bias=True, bias=True).double()
    x = random(3, T, 6)
    mask = torch.rand(3, 1, T, T, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[..., 0] = True  # every query sees the first key
    visible = torch.ones(T, T, dtype=torch.bool).tril() if causal else torch.ones(T, T).bool()
    q, k, v = (
        (x @ w.T + b).view(3, T, H, 4).transpose(1, 2)
        for w, b in zip(layer.qkv.weight.chunk(3), layer.qkv.bias.chunk(3), strict=True)
    )
    scores = (q @ k.mT / 2).masked_fill(~(visible & mask if masked else visible), -torch.inf)
    wanted = (scores.softmax(-1) @ v).transpose(1, 2).reshape(3, T, 8)
    wanted = wanted @ layer.out.weight.T + layer.out.bias
    torch.testing.assert_close(layer(x, mask=mask if masked else None), wanted)


def test_without_a_causal_mask_it_equals_torch_multihead_attention() -> None:
    ours = MultiHeadAttention(8, 2, causal=False, qkv_bias=True, bias=True).double()
    theirs = nn.MultiheadAttention(8, 2, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    x = random(2, 5, 8)
    torch.testing.assert_close(ours(x), theirs(x, x, x, need_weights=False)[0])


def test_it_takes_rotation_and_other_numbers_of_key_heads() -> None:
    layer = MultiHeadAttention(8, 4, n_kv_heads=2, d_head=6).double()
    rope = RotaryEmbedding(6, 5)
    x = random(2, 5, 8)
    heads = (x @ layer.qkv.weight.T).view(2, 5, 8, 6).transpose(1, 2)
    q, k, v = rope(heads[:, :4]), rope(heads[:, 4:6]), heads[:, 6:]
    wanted = attention_formula(q, k, v).transpose(1, 2).flatten(2) @ layer.out.weight.T
    torch.testing.assert_close(layer(x, rope.at(torch.arange(5))), wanted)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(UserError, match="not divisible by 3 heads"):
        MultiHeadAttention(8, 3)
