"""The adapters of the training loop, as the tests of the course use them."""

import io
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from groundup import cs336
from groundup.base.errors import UserError


def test_batches_are_uniform_windows() -> None:
    torch.manual_seed(0)
    dataset = np.arange(0, 100)
    starts: Counter[int] = Counter()
    for _ in range(300):
        x, y = cs336.run_get_batch(dataset, 32, 7, "cpu")
        assert x.shape == y.shape == (32, 7)
        assert x.dtype == torch.int64
        assert torch.equal(x + 1, y)
        starts.update(x[:, 0].tolist())
    assert set(starts) == set(range(93))
    expected = 300 * 32 / 93
    assert all(abs(n - expected) < 5 * math.sqrt(expected) for n in starts.values())


def test_batches_of_a_memory_map_and_of_other_devices(tmp_path: Path) -> None:
    np.arange(50, dtype=np.uint16).tofile(tmp_path / "train.bin")
    x, y = cs336.run_get_batch(np.memmap(tmp_path / "train.bin", np.uint16, "r"), 4, 49, "cpu")
    assert torch.equal(x, torch.arange(49).expand(4, 49))
    assert torch.equal(y, x + 1)
    with pytest.raises((RuntimeError, AssertionError)):
        cs336.run_get_batch(np.arange(50), 4, 7, "cuda:99")
    with pytest.raises(UserError):
        cs336.run_get_batch(np.arange(7), 4, 7, "cpu")


def test_cross_entropy_and_clipping() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, 5, generator=generator)
    targets = torch.randint(5, (8,), generator=generator)
    for scale in (1.0, 1000.0):
        wanted = nn.functional.cross_entropy(scale * logits, targets)
        torch.testing.assert_close(cs336.run_cross_entropy(scale * logits, targets), wanted)
    parameters = [nn.Parameter(torch.randn(5, 5, generator=generator)) for _ in range(6)]
    parameters[-1].requires_grad_(False)
    copies = [nn.Parameter(p.detach().clone(), requires_grad=p.requires_grad) for p in parameters]
    for group in (parameters, copies):
        torch.cat([p for p in group if p.requires_grad]).square().sum().backward()
    nn.utils.clip_grad_norm_(copies, 1e-2)
    cs336.run_gradient_clipping(parameters, 1e-2)
    for ours, theirs in zip(parameters, copies, strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-4)


def optimize(cls: Any) -> torch.Tensor:
    torch.manual_seed(42)
    model = nn.Linear(3, 2, bias=False)
    optimizer = cls(model.parameters(), lr=1e-3, weight_decay=0.01, betas=(0.9, 0.999), eps=1e-8)
    for _ in range(200):
        optimizer.zero_grad()
        x = torch.rand(model.in_features)
        loss = ((model(x) - torch.stack([x[0] + x[1], -x[2]])) ** 2).sum()
        loss.backward()
        optimizer.step()
    return model.weight.detach()


def test_adamw_equals_torch() -> None:
    torch.testing.assert_close(optimize(cs336.get_adamw_cls()), optimize(torch.optim.AdamW))


def test_the_schedule_equals_the_handout() -> None:
    for it in range(25):
        if it < 7:
            wanted = it / 7
        elif it <= 21:
            wanted = 0.1 + 0.5 * (1 + math.cos((it - 7) / 14 * math.pi)) * 0.9
        else:
            wanted = 0.1
        found = cs336.run_get_lr_cosine_schedule(
            it, max_learning_rate=1, min_learning_rate=1 * 0.1, warmup_iters=7,
            cosine_cycle_iters=21,
        )  # fmt: skip
        assert found == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("to_file", [False, True])
def test_checkpoints_restore_model_optimizer_and_iteration(to_file: bool, tmp_path: Path) -> None:
    def make() -> tuple[nn.Module, Any]:
        model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
        return model, cs336.get_adamw_cls()(model.parameters(), lr=1e-3, betas=(0.9, 0.999))

    model, optimizer = make()
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.rand(5, 4)).square().sum().backward()
        optimizer.step()
    place: Any = str(tmp_path / "checkpoint.pt") if to_file else io.BytesIO()
    cs336.run_save_checkpoint(model, optimizer, iteration=3, out=place)
    if not to_file:
        place.seek(0)
    other, its_optimizer = make()
    assert cs336.run_load_checkpoint(src=place, model=other, optimizer=its_optimizer) == 3
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    first, second = optimizer.state_dict(), its_optimizer.state_dict()
    assert first.keys() == second.keys()
    assert first["param_groups"] == second["param_groups"]
    assert first["state"].keys() == second["state"].keys()
    for index, state in first["state"].items():
        assert all(torch.equal(value, second["state"][index][key]) for key, value in state.items())
