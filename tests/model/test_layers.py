"""Every public layer and function equals its formula in float64, and refuses what it cannot do."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import erf
from torch import Tensor, nn

from groundup.base.errors import UserError
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.model.layers import (
    MLP,
    Embedding,
    LayerNorm,
    Linear,
    RMSNorm,
    gelu,
    silu,
    softmax,
    squared_relu,
    swiglu,
)
from groundup.model.loss import cross_entropy
from groundup.model.rotary import RotaryEmbedding
from groundup.reference import attention as reference

SHAPES = [(5,), (3, 5), (2, 3, 5), (2, 1, 3, 5)]


def random(*shape: int, seed: int = 0, scale: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
def test_activations_equal_their_formulas(shape: tuple[int, ...]) -> None:
    x, y = random(*shape), random(*shape, seed=1)
    a = x.numpy()
    tanh = np.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3))
    sigmoid = 1 / (1 + np.exp(-a))
    for found, wanted in (
        (silu(x), a * sigmoid),
        (gelu(x), a * (1 + erf(a / math.sqrt(2))) / 2),
        (gelu(x, "tanh"), a * (1 + tanh) / 2),
        (swiglu(x, y), a * sigmoid * y.numpy()),
        (squared_relu(x), np.maximum(a, 0) ** 2),
    ):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_softmax_equals_its_formula_along_every_dimension(shape: tuple[int, ...]) -> None:
    x = random(*shape)
    for dim in range(-len(shape), len(shape)):
        powers = np.exp(x.numpy())
        wanted = powers / powers.sum(axis=dim, keepdims=True)
        np.testing.assert_allclose(softmax(x, dim).numpy(), wanted, rtol=1e-12)
    torch.testing.assert_close(softmax(x + 1e4), softmax(x))
    with pytest.raises(IndexError):
        softmax(x, len(shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_norms_equal_their_formulas(shape: tuple[int, ...]) -> None:
    x, weight, bias = random(*shape), random(5, seed=1), random(5, seed=2)
    a = x.numpy()
    rms, layer = RMSNorm(5, eps=0.1).double(), LayerNorm(5, eps=0.1).double()
    plain = LayerNorm(5, bias=False)
    assert plain.bias is None
    with torch.no_grad():
        rms.weight.copy_(weight)
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    wanted = a / np.sqrt((a**2).mean(-1, keepdims=True) + 0.1) * weight.numpy()
    np.testing.assert_allclose(rms(x).detach().numpy(), wanted, rtol=1e-10)
    centered = a - a.mean(-1, keepdims=True)
    wanted = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 0.1)
    wanted = wanted * weight.numpy() + bias.numpy()
    np.testing.assert_allclose(layer(x).detach().numpy(), wanted, rtol=1e-10, atol=1e-12)


def test_linear_and_embedding_draw_what_torch_draws() -> None:
    for ours, theirs in (
        (lambda: Linear(7, 3), lambda: nn.Linear(7, 3)),
        (lambda: Linear(7, 3, bias=False), lambda: nn.Linear(7, 3, bias=False)),
        (lambda: Embedding(7, 3), lambda: nn.Embedding(7, 3)),
    ):
        states = []
        for make in (ours, theirs):
            torch.manual_seed(123)
            states.append((make().state_dict(), torch.get_rng_state()))
        assert states[0][0].keys() == states[1][0].keys()
        assert all(torch.equal(v, states[1][0][k]) for k, v in states[0][0].items())
        assert torch.equal(states[0][1], states[1][1])


def test_the_model_reads_and_changes_no_random_state() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    GPT(GPTConfig(vocab_size=9, d_model=16, n_layers=1, n_heads=2))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("activation", ["swiglu", "gelu", "gelu-exact", "relu2"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_mlp_equals_its_formula(activation: Any, shape: tuple[int, ...]) -> None:
    mlp, x = MLP(5, 4, activation=activation, bias=True).double(), random(*shape)
    up = x @ mlp.up.weight.T + mlp.up.bias
    hidden = {
        "swiglu": lambda: up[..., :4] * up[..., :4].sigmoid() * up[..., 4:],
        "gelu": lambda: nn.functional.gelu(up, approximate="tanh"),
        "gelu-exact": lambda: up * (1 + (up / 2**0.5).erf()) / 2,
        "relu2": lambda: up.clamp(min=0) ** 2,
    }[activation]()
    torch.testing.assert_close(mlp(x), hidden @ mlp.down.weight.T + mlp.down.bias)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 2, 3)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("ignore_index", [-100, -1, 2])
def test_cross_entropy_over_any_leading_dimensions(
    shape: tuple[int, ...], reduction: Any, ignore_index: int
) -> None:
    logits = random(*shape, 7)
    targets = torch.randint(7, shape, generator=torch.Generator().manual_seed(3))
    if shape:
        targets[..., 0] = ignore_index
    flat, wanted, counted = targets.flatten().tolist(), 0.0, 0
    for row, target in zip(logits.reshape(-1, 7).tolist(), flat, strict=True):
        if target != ignore_index:
            wanted -= math.log(math.exp(row[target]) / sum(map(math.exp, row)))
            counted += 1
    found = cross_entropy(logits, targets, ignore_index=ignore_index, reduction=reduction)
    assert found.dtype == torch.float64
    if counted or reduction == "sum":
        divisor = counted if reduction == "mean" else 1
        assert found.item() == pytest.approx(wanted / divisor, rel=1e-12)
    else:
        assert found.isnan()
    low = cross_entropy(logits.bfloat16(), targets, ignore_index=ignore_index)
    assert low.dtype == torch.float32


def test_cross_entropy_of_large_logits_is_finite() -> None:
    logits = torch.tensor([1e4, 0.0, -1e4])
    assert cross_entropy(logits, torch.tensor(2)).item() == pytest.approx(2e4)
    with pytest.raises(IndexError):
        cross_entropy(logits, torch.tensor(3))


@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_rope_equals_the_reference_at_any_positions(layout: Any) -> None:
    rope = RotaryEmbedding(8, 16, base=100.0, layout=layout)
    x = torch.randn(2, 16, 3, 8, generator=torch.Generator().manual_seed(1))  # (B, T, N, D)
    wanted = torch.from_numpy(reference.rotate(x.numpy(), base=100.0, layout=layout))
    heads, wanted = x.transpose(1, 2), wanted.transpose(1, 2)  # (B, N, T, D)
    torch.testing.assert_close(rope(heads), wanted, atol=1e-5, rtol=1e-5)
    picked = torch.tensor([[3, 0, 15], [7, 7, 1]])  # other positions in each text
    rows = torch.stack([heads[b][:, picked[b]] for b in range(2)])
    expected = torch.stack([wanted[b][:, picked[b]] for b in range(2)])
    torch.testing.assert_close(rope(rows, picked), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rope(rows[0], picked[0]), expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rope(rows[:, 0], picked), expected[:, 0], atol=1e-5, rtol=1e-5)
    one = torch.arange(16)[None]
    torch.testing.assert_close(rope(heads, one), wanted, atol=1e-5, rtol=1e-5)
    assert rope.state_dict() == {}
    with pytest.raises(UserError, match="17 positions do not fit in a context of 16"):
        rope(torch.zeros(17, 8))
    with pytest.raises(IndexError):
        rope(torch.zeros(1, 8), torch.tensor([16]))
    with pytest.raises(UserError, match="even"):
        RotaryEmbedding(7, 16)
