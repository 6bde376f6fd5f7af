"""A step in segments has the loss and the gradients of the whole window."""

from collections.abc import Callable

import pytest
import torch
from decoder_models import CONFIGS, lively
from torch import Tensor

from groundup.model.gpt import GPT
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
    return max(((a - b).norm() / b.norm()).item() for a, b in pairs)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("segment", [16, 13, 48])
def test_loss_and_gradients_are_those_of_the_whole_window(name: str, segment: int) -> None:
    model, rows = lively(CONFIGS[name]), batch(48)
    nats, whole = gradients(model, model.loss, *rows)
    found, parts = gradients(model, SegmentedLoss(model, torch.float32, segment), *rows)
    assert found == pytest.approx(nats, rel=1e-6)
    assert furthest(parts, whole) < 1e-5
