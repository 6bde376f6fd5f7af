"""Full attention in segments: the same as the formula, and exact gradients with dropout."""

import pytest
import torch
from torch import Tensor

from groundup.model import key_buffer
from groundup.model.attention import attention_formula
from groundup.model.key_buffer import KeyBuffer, KeyState


def queries_keys_values(T: int, n_kv_heads: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, n_heads, T, 6) for n_heads in (4, n_kv_heads, n_kv_heads)]
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


@pytest.mark.parametrize(("n_kv_heads", "segment"), [(4, 70), (2, 30), (1, 7)])
def test_segments_give_what_the_formula_gives(
    n_kv_heads: int, segment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_buffer, "_QUERIES", 8)
    monkeypatch.setattr(key_buffer, "_KEYS", 16)
    whole = [x.requires_grad_() for x in queries_keys_values(70, n_kv_heads, torch.float32)]
    expected = attention_formula(*whole)
    outer = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad(expected, whole, outer)
    buffer, starts = KeyBuffer(70), range(0, 70, segment)

    def part(x: Tensor, start: int) -> Tensor:
        return x[:, :, start : start + segment].detach()

    with torch.no_grad():
        outputs = [KeyState(buffer, i).attend(*(part(x, i) for x in whole))[0] for i in starts]
    torch.testing.assert_close(torch.cat(outputs, 2), expected, rtol=0, atol=1e-5)
    found: list[tuple[Tensor, ...]] = []
    for start in reversed(starts):
        leaves = [part(x, start).requires_grad_() for x in whole]
        mixed, _ = KeyState(buffer, start).attend(*leaves)
        found.insert(0, torch.autograd.grad(mixed, leaves, part(outer, start)))
    for parts, gradient in zip(zip(*found, strict=True), gradients, strict=True):
        torch.testing.assert_close(torch.cat(parts, 2), gradient, rtol=0, atol=1e-5)


def test_the_kernel_of_a_gpu_gives_the_same() -> None:
    """Its call has no kernel of a GPU here, but the same alignment of the mask."""
    queries, keys, values = queries_keys_values(20, 4, torch.float32)
    outer = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(1))
    found = []
    for part in (
        key_buffer._Flash(queries[:, :, 15:], keys, values, dropout=0.0),
        key_buffer._Tiles(queries[:, :, 15:], keys, values, dropout=0.0, seed=0),
    ):
        d_keys, d_values = torch.zeros_like(keys), torch.zeros_like(values)
        found.append((part.mixed, part.backward(outer, d_keys, d_values), d_keys, d_values))
    torch.testing.assert_close(*found, rtol=0, atol=1e-5)


def test_the_backward_pass_drops_the_same_weights() -> None:
    def attend(*tensors: Tensor, dropout: float = 0.4) -> Tensor:
        torch.manual_seed(3)
        return KeyState(KeyBuffer(9)).attend(*tensors, dropout=dropout)[0]

    rows = [x.requires_grad_() for x in queries_keys_values(9, 2, torch.float64)]
    assert (attend(*rows) != attend(*rows, dropout=0.0)).any()
    gradients = torch.autograd.grad(attend(*rows).square().sum(), rows)
    with torch.no_grad():
        step = [1e-6 * torch.ones_like(x).cumsum(2).sin() for x in rows]
        above, below = (
            attend(*(x + sign * d for x, d in zip(rows, step, strict=True))).square().sum()
            for sign in (1, -1)
        )
    expected = sum((g * d).sum() for g, d in zip(gradients, step, strict=True))
    torch.testing.assert_close((above - below) / 2, expected, rtol=1e-6, atol=0)
