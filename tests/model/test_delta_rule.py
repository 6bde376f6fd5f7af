"""The gated delta rule equals its formula in NumPy, and the implementation in transformers."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from peers import peer
from torch import Tensor

from groundup.model import delta_rule as rule_module
from groundup.model.delta import N_TAPS, GatedDelta, convolution
from groundup.model.delta_rule import CHUNK, delta_step, gated_delta_rule
from groundup.reference import delta_rule as reference

LENGTHS = [1, 5, CHUNK, 3 * CHUNK + 1, 1500]


@pytest.fixture(params=[False, True], ids=["one chunk after another", "all chunks at once"])
def _order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU, and as on a GPU."""
    if request.param:
        monkeypatch.setattr(rule_module, "_in_parallel", lambda _: True)
        monkeypatch.setattr(rule_module, "DELTA_AT_ONCE", rule_module.DELTA_AT_ONCE_ON_GPU)


in_both_orders = pytest.mark.usefixtures("_order")


def some_inputs(n: int, dtype: torch.dtype = torch.float32, d_head: int = 16) -> list[Tensor]:
    """Queries, keys, values, decays, rates and a state; heads forget fast and slowly."""
    generator = torch.Generator().manual_seed(n)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    vectors = [draw(2, n, 3, d_head) for _ in range(3)]
    decay = -draw(2, n, 3).abs() * torch.tensor([0.001, 0.1, 3.0], dtype=dtype)
    inputs = [*vectors, decay, draw(2, n, 3).sigmoid(), draw(2, 3, d_head, d_head)]
    return [x.requires_grad_() for x in inputs]


def qwen3_next() -> Any:
    peer("transformers", 5)
    return peer("transformers.models.qwen3_next.modeling_qwen3_next")


def gradients(inputs: list[Tensor], results: tuple[Tensor, ...]) -> list[Tensor]:
    total = sum(
        (x * torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x)).sum() for x in results
    )
    assert isinstance(total, Tensor)
    return list(torch.autograd.grad(total, inputs))


def assert_near(found: Tensor, expected: Tensor) -> None:
    """Equal up to 1e-5 of the largest value."""
    worst, largest = (float(x.detach().abs().max()) for x in (found - expected, expected))
    assert worst <= 1e-5 * (1e-3 + largest)


@in_both_orders
@pytest.mark.parametrize("n", LENGTHS[:4])
def test_equals_the_reference(n: int) -> None:
    inputs = some_inputs(n)
    plain = reference.gated_delta_rule(*(x.detach().double().numpy() for x in inputs))
    for found, expected in zip(gated_delta_rule(*inputs), plain, strict=True):
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5, atol=1e-5)


@in_both_orders
@pytest.mark.parametrize("n", LENGTHS)
def test_equals_transformers_in_values_and_gradients(n: int) -> None:
    theirs = qwen3_next()
    rule = "torch_recurrent_gated_delta_rule" if n < 100 else "torch_chunk_gated_delta_rule"
    inputs = some_inputs(n)
    q, k, v, decay, rate, state = inputs
    expected = getattr(theirs, rule)(
        q, k, v, g=decay, beta=rate, initial_state=state, output_final_state=True,
        use_qk_l2norm_in_kernel=True,
    )  # fmt: skip
    ours = gated_delta_rule(*inputs)
    pairs = [*zip(ours, expected, strict=True)]
    pairs += zip(gradients(inputs, ours), gradients(inputs, expected), strict=True)
    for found, other in pairs:
        assert_near(found, other)


@in_both_orders
def test_gradients_are_those_of_the_function() -> None:
    inputs = [x[:1].detach().requires_grad_() for x in some_inputs(70, torch.float64, 3)]
    starts = torch.zeros(1, 70, dtype=torch.bool)
    starts[0, [0, 3, 4, 66]] = True
    assert torch.autograd.gradcheck(
        lambda *x: gated_delta_rule(*x, starts=starts), inputs, fast_mode=True
    )
    assert torch.autograd.gradcheck(gated_delta_rule, inputs, fast_mode=True)


def test_steps_equal_chunks() -> None:
    inputs = some_inputs(9)
    with torch.no_grad():
        whole, last = gated_delta_rule(*inputs)
        *rows, state = inputs
        steps = []
        for t in range(9):
            q, k, v, decay, rate = (x[:, t] for x in rows)
            one, state = delta_step(q, k, v, decay, rate, state)
            steps.append(one)
    torch.testing.assert_close(torch.stack(steps, 1), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state, last, rtol=1e-5, atol=1e-5)


@in_both_orders
def test_equal_keys_stay_exact() -> None:
    """The worst case of a chunk: each value overwrites the one before."""
    q = torch.ones(1, 200, 1, 4)
    v = torch.randn(1, 200, 1, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        read, _ = gated_delta_rule(q, q, v, torch.zeros(1, 200, 1), torch.ones(1, 200, 1))
    torch.testing.assert_close(read, v * 0.5, rtol=1e-5, atol=1e-5)  # 1 / sqrt(D)


@pytest.mark.parametrize("n", [1, 2, 50])
def test_the_convolution_equals_torch(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    inputs = [
        torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((2, n, 6), (N_TAPS, 6), (2, N_TAPS - 1, 6))
    ]
    x, taps, tail = inputs
    padded = torch.cat((tail, x), 1).mT
    expected = F.silu(F.conv1d(padded, taps.T[:, None], groups=6)).mT
    ours = convolution(x, taps, tail)
    torch.testing.assert_close(ours, expected)
    for pair in zip(gradients(inputs, (ours,)), gradients(inputs, (expected,)), strict=True):
        torch.testing.assert_close(*pair)


def test_the_convolution_stays_in_a_document() -> None:
    x = torch.randn(1, 9, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    taps = torch.linspace(-1, 2, 16, dtype=torch.float64).view(4, 4).requires_grad_()
    x, tail = x.requires_grad_(), x.new_zeros(1, 3, 4)
    lengths = [4, 1, 2, 2]
    alone = torch.cat([convolution(each, taps, tail) for each in x.split(lengths, 1)], 1)
    positions = torch.cat([torch.arange(n) for n in lengths])
    together = convolution(x, taps, tail, positions)
    torch.testing.assert_close(together, alone)
    for pair in zip(gradients([x, taps], (together,)), gradients([x, taps], (alone,)), strict=True):
        torch.testing.assert_close(*pair)


def test_the_layer_equals_that_of_qwen3_next() -> None:
    theirs = qwen3_next()
    config: Any = theirs.Qwen3NextConfig(
        hidden_size=24, linear_num_value_heads=3, linear_num_key_heads=3, linear_key_head_dim=8,
        linear_value_head_dim=8, linear_conv_kernel_dim=N_TAPS, num_hidden_layers=1,
        layer_types=["linear_attention"],
    )  # fmt: skip
    torch.manual_seed(1)
    other = theirs.Qwen3NextGatedDeltaNet(config, 0)
    ours = GatedDelta(24, n_heads=3, d_head=8)
    with torch.no_grad():
        other.norm.weight.uniform_()
        # Their rows: query, key, value and gate of one head after the other.
        rows = other.in_proj_qkvz.weight.view(3, 4, 8, 24)
        ours.inputs.weight.copy_(rows.transpose(0, 1).reshape(96, 24))
        rates = other.in_proj_ba.weight.view(3, 2, 24)
        ours.rates.weight.copy_(rates.transpose(0, 1).reshape(6, 24))
        ours.taps.copy_(other.conv1d.weight[:, 0].T)
        ours.decay_log.copy_(other.A_log)
        ours.decay_bias.copy_(other.dt_bias)
        ours.gain.copy_(other.norm.weight)
        ours.out.weight.copy_(other.out_proj.weight)
        x = torch.randn(2, 150, 24)
        torch.testing.assert_close(ours(x)[0], other(x), rtol=1e-5, atol=1e-5)
