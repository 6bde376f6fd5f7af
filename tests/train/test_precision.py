"""The rounded copies of the weights that a CPU keeps follow every change of the weights."""

from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.train.optimizer import Optimizer, OptimizerConfig
from groundup.train.precision import MixedPrecision
from groundup.weights.checkpoint_format import fill_model, stored_tensors

CONFIG = GPTConfig(vocab_size=11, context_length=8, d_model=16, n_layers=1, n_heads=2)
IDS = torch.arange(9)[None] % 11
BATCH = IDS[:, :-1], IDS[:, 1:]


@torch.no_grad()
def _write_in_place(model: GPT, optimizer: Optimizer) -> None:
    for weight in model.parameters():
        weight.mul_(1.5)


def _load(model: GPT, optimizer: Optimizer) -> None:
    model.load_state_dict(GPT(CONFIG, seed=2).state_dict())


def _fill(model: GPT, optimizer: Optimizer) -> None:
    fill_model(model, stored_tensors(GPT(CONFIG, seed=2)), where=Path())


def _replace(model: GPT, optimizer: Optimizer) -> None:
    for _ in range(2):  # the second one could get the memory of the first weights
        for weight in model.parameters():
            weight.data = 0.5 * weight.data


def _step(model: GPT, optimizer: Optimizer) -> None:
    optimizer.step(1.0)


@pytest.mark.parametrize("change", [_step, _write_in_place, _load, _fill, _replace])
@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_every_change_of_the_weights_is_seen(change, name):
    model = GPT(CONFIG, seed=1)
    optimizer = Optimizer(model, OptimizerConfig(name=name, learning_rate=0.1))
    kept = MixedPrecision(model, torch.bfloat16)
    for _ in range(2):
        optimizer.zero_grad()
        with torch.inference_mode():
            kept(*BATCH)
        before = kept(*BATCH)
        before.backward()
        change(model, optimizer)
        after = kept(*BATCH)
        assert after != before
        assert after == MixedPrecision(model, torch.bfloat16)(*BATCH)
        if change in (_load, _fill):
            break


class _Casts(TorchDispatchMode):
    """Counts the matrices that are rounded to bfloat16."""

    n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        is_copy = func in (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)
        if is_copy and result.dtype == torch.bfloat16 and result.shape == (11, 16):
            self.n += 1
        return result


def test_the_parts_of_a_batch_share_the_copies_and_the_gradients_are_float32(monkeypatch):
    model = GPT(CONFIG, seed=1)
    loss = MixedPrecision(model, torch.bfloat16)
    with _Casts() as casts:
        for _ in range(3):
            loss(*BATCH).backward()
            with torch.no_grad():
                loss(*BATCH)
    assert casts.n == 1 + (not CONFIG.tie_embeddings)
    kept = {name: weight.grad for name, weight in model.named_parameters()}
    model.zero_grad()
    monkeypatch.setattr(MixedPrecision, "_copy_of", lambda self, name, w: w.to(self.dtype))
    MixedPrecision(model, torch.bfloat16)(*BATCH).backward()
    for name, weight in model.named_parameters():
        assert kept[name].dtype == torch.float32
        assert weight.grad is not None
        torch.testing.assert_close(kept[name], 3 * weight.grad)
