"""A step in segments has the loss and the gradients of the whole window."""

import copy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from decoder_models import CONFIGS, SMALL, lively
from torch import Tensor

from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.model.key_buffer import KeyState
from groundup.model.loss import head_cross_entropy
from groundup.planning.memory import states_bytes
from groundup.train.precision import MixedPrecision
from groundup.train.segments import SegmentedLoss


def batch(T: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids, targets = torch.randint(60, (2, 2, T), generator=generator)
    targets[0, : T // 3] = -100  # also a whole segment without a target
    return ids, targets


def gradients(model: GPT, loss: Callable[..., Tensor], *rows: Tensor) -> tuple[float, list[Tensor]]:
    model.zero_grad()
    nats = loss(*rows)
    nats.backward()
    return nats.item(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


def furthest(some: list[Tensor], others: list[Tensor]) -> float:
    pairs = zip(some, others, strict=True)
    return max(((a.double() - b).norm() / b.norm()).item() for a, b in pairs)


PATTERNS = {
    pattern: GPTConfig(**SMALL, layers=pattern, window=9 if "w" in pattern else None)
    for pattern in ("w", "d", "g", "wd", "dg")
}
KINDS = CONFIGS | PATTERNS


def compare(config: GPTConfig, T: int, *segments: int) -> None:
    """Compare with the gradients of the whole window in float64."""
    model, rows = lively(config), batch(T)
    exact = copy.deepcopy(model).double()
    nats, whole = gradients(exact, exact.loss, *rows)
    rounding = furthest(gradients(model, model.loss, *rows)[1], whole)
    for segment in segments:
        found, parts = gradients(exact, SegmentedLoss(exact, torch.float32, segment), *rows)
        assert found == pytest.approx(nats, rel=1e-8)
        assert furthest(parts, whole) < 2e-6  # tables of distances are float32
        found, parts = gradients(model, SegmentedLoss(model, torch.float32, segment), *rows)
        assert found == pytest.approx(nats, rel=1e-6)
        assert furthest(parts, whole) < max(1e-5, 2 * rounding)


@pytest.mark.parametrize("name", KINDS)
def test_loss_and_gradients_are_those_of_the_whole_window(name: str) -> None:
    compare(KINDS[name], 48, 16, 13, 48)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["w", "d", "g", "wdwg"])
def test_loss_and_gradients_at_4096_tokens(pattern: str) -> None:
    shape = {**SMALL, "context_length": 4096, "d_model": 32, "n_layers": len(pattern)}
    window = 512 if "w" in pattern else None
    compare(GPTConfig(**shape, layers=pattern, window=window), 4096, 1024, 1000)


@pytest.mark.parametrize("pattern", ["w", "d", "wd"])
def test_dropout_draws_the_same_masks_again(pattern: str) -> None:
    """As if the graph of all segments were kept: the same masks, and then autograd alone."""
    model = lively(replace(PATTERNS[pattern], dropout=0.3)).train()
    ids, targets = batch(48)
    loss = SegmentedLoss(model, torch.float32, 16)

    def unrolled(ids: Tensor, targets: Tensor) -> Tensor:
        state, total = None, torch.zeros(())
        for here in loss.parts(48):
            hidden, state = model.segment(ids[:, here], state)
            total = total + head_cross_entropy(
                hidden, model.head.weight, targets[:, here], reduction="sum"
            )
        return total / (targets != -100).sum()

    torch.manual_seed(5)
    found, parts = gradients(model, loss, ids, targets)
    after = torch.rand(())
    torch.manual_seed(5)
    nats, whole = gradients(model, unrolled, ids, targets)
    assert torch.rand(()) == after
    assert found == pytest.approx(nats, rel=1e-6)
    assert furthest(parts, whole) < 1e-5


@pytest.mark.parametrize("pattern", PATTERNS)
def test_bfloat16_is_as_near_as_the_whole_window(pattern: str) -> None:
    model, rows = lively(PATTERNS[pattern]), batch(48)
    nats, exact = gradients(model, model.loss, *rows)
    _, whole = gradients(model, MixedPrecision(model, torch.bfloat16), *rows)
    found, parts = gradients(model, SegmentedLoss(model, torch.bfloat16, 13), *rows)
    assert found == pytest.approx(nats, rel=2e-2)
    assert furthest(parts, exact) < 2 * furthest(whole, exact)


def test_validation_keeps_no_states() -> None:
    model = lively(PATTERNS["w"])
    with torch.no_grad():
        total = SegmentedLoss(model, torch.float32, 16)(*batch(48), reduction="sum")
        assert total.item() == pytest.approx(model.loss(*batch(48), reduction="sum").item())
    assert total.grad_fn is None


@pytest.mark.parametrize("pattern", ["w", "d", "g", "wd"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_planned_bytes_of_the_states_are_kept(pattern: str, dtype: torch.dtype) -> None:
    config = KINDS[pattern]
    model, (ids, targets) = lively(config), batch(48)
    total = SegmentedLoss(model, dtype, 16)(ids, targets, reduction="sum")
    tensors = [x for state, _ in total.grad_fn.kept for x in state.tensors()]  # type: ignore[union-attr]
    last = total.grad_fn.kept[-1][0].layers  # type: ignore[union-attr]
    for layer in last:
        if isinstance(layer, KeyState):
            tensors += [*layer.buffer.stored(48), *layer.buffer.gradients(48)]
    found = sum(x.numel() * x.element_size() for x in tensors)
    assert found == len(ids) * states_bytes(config, 16, dtype.itemsize)


def test_a_kept_state_holds_no_larger_tensor() -> None:
    """A state may be a view, e.g. of the matrices of all chunks of a segment."""
    model, rows = lively(replace(KINDS["d"], context_length=960)), batch(960)
    total = SegmentedLoss(model, torch.float32, 240)(*rows, reduction="sum")
    (state, _), (other, _) = total.grad_fn.kept[2:]  # type: ignore[union-attr]
    for x, y in zip(state.tensors(), other.tensors(), strict=True):
        assert x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()
        assert x.untyped_storage().nbytes() <= 2 * x.nbytes
    assert state.ids.untyped_storage().nbytes() == 0


_PEAK = """
import sys, torch
from groundup.base.machine import peak_memory_bytes
from groundup.base.malloc import keep_freed
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.planning.memory import states_bytes
from groundup.train.segments import LARGEST_KEPT_BYTES, SegmentedLoss

T, segment = int(sys.argv[1]), 1024
keep_freed(largest_bytes=LARGEST_KEPT_BYTES)
torch.set_num_threads(1)
config = GPTConfig(
    vocab_size=256, context_length=T, d_model=64, n_layers=2, n_heads=2, layers="wd", window=256
)
loss = SegmentedLoss(GPT(config, seed=1), torch.float32, segment)
loss(*torch.randint(256, (2, 1, T))).backward()
print(peak_memory_bytes(torch.device("cpu")) - states_bytes(config, segment, 4) - 16 * T)
"""


@pytest.mark.slow
def test_memory_grows_by_the_states_and_16_bytes_per_token() -> None:
    """What stays allocated between two segments does not fragment the heap."""

    def beside(T: int) -> int:
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, str(T)], check=True, capture_output=True
        )
        return int(done.stdout)

    assert beside(2**17) - beside(2**14) < 8e6
