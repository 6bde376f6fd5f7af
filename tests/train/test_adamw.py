"""AdamW equals torch's on any module, with its groups, schedulers and stored states."""

import copy
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from groundup.base.errors import UserError
from groundup.train.adamw import AdamW
from groundup.train.loop import clip_grad_norm

SETTINGS: list[dict[str, Any]] = [
    {},
    {"lr": 0.03, "betas": (0.5, 0.7), "eps": 0.1, "weight_decay": 0.3},
    {"lr": 0.01, "weight_decay": 0.0},
]


def module(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3))


def train(model: nn.Module, optimizer: Any, n_steps: int, scheduler: Any = None) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(n_steps):
        optimizer.zero_grad()
        model(torch.randn(6, 5, generator=generator)).square().sum().backward()
        optimizer.step()
        if scheduler:
            scheduler.step()


def groups(model: nn.Module) -> list[dict[str, Any]]:
    return [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.5},
        {"params": [p for p in model.parameters() if p.ndim == 1], "lr": 0.02, "eps": 0.01},
    ]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("grouped", [False, True])
def test_it_equals_torch(settings: dict[str, Any], grouped: bool) -> None:
    models = module(), module()
    for model, cls in zip(models, (AdamW, torch.optim.AdamW), strict=True):
        optimizer = cls(groups(model) if grouped else model.parameters(), **settings)
        train(model, optimizer, 20, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20))
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_it_reads_the_state_of_torch_and_the_other_way_round() -> None:
    for first, second in ((torch.optim.AdamW, AdamW), (AdamW, torch.optim.AdamW)):
        model = module()
        optimizer = first(model.parameters(), lr=0.02)
        train(model, optimizer, 5)
        other = module()
        other.load_state_dict(model.state_dict())
        its_optimizer = second(other.parameters(), lr=0.5)
        its_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        train(model, optimizer, 5)
        train(other, its_optimizer, 5)
        for one, two in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight_turned", [False, True])
@pytest.mark.parametrize("gradient_turned", [False, True])
def test_weights_and_gradients_in_any_memory_layout(
    weight_turned: bool, gradient_turned: bool
) -> None:
    results = []
    for cls in (AdamW, torch.optim.AdamW):  # torch's unfused kernel is right for any layout
        first = torch.arange(6.0).view(2, 3).t() if weight_turned else torch.ones(3, 2)
        weight = nn.Parameter(first.clone())
        optimizer = cls([weight], lr=0.1, eps=1.0)
        for step in range(3):
            gradient = torch.arange(6.0).add(step)
            weight.grad = gradient.view(2, 3).t() if gradient_turned else gradient.view(3, 2)
            optimizer.step()
        results.append(weight.data)
    torch.testing.assert_close(*results)


def test_parameters_without_a_gradient_stay_and_do_not_count_steps() -> None:
    model = module()
    optimizer = AdamW(model.parameters(), weight_decay=0.5)
    first = model.get_parameter("0.weight")
    before = first.detach().clone()
    model[2](torch.ones(1, 4)).sum().backward()
    optimizer.step()
    assert torch.equal(first, before)
    train(model, optimizer, 1)
    state = optimizer.state_dict()["state"]
    assert [int(state[index]["step"]) for index in (0, 5)] == [1, 2]


def test_the_closure_is_called_with_gradients() -> None:
    weight = nn.Parameter(torch.ones(1))
    optimizer = AdamW([weight])

    def closure() -> float:
        loss = (2 * weight).sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 2.0
    assert weight.item() < 1


@pytest.mark.parametrize(
    "wrong", [{"lr": -1.0}, {"eps": -1e-9}, {"weight_decay": float("nan")}, {"betas": (0.9, 1.0)}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="expected"):
        AdamW(module().parameters(), **wrong)


def test_variants_in_a_stored_state_are_refused() -> None:
    model = module()
    for variant in ("amsgrad", "maximize"):
        stored = torch.optim.AdamW(model.parameters(), **{variant: True}).state_dict()  # type: ignore[arg-type]
        with pytest.raises(UserError, match=variant):
            AdamW(model.parameters()).load_state_dict(stored)


def test_a_step_does_not_import_the_compiler() -> None:
    code = (
        "import sys, torch\n"
        "from groundup.model.config import GPTConfig\n"
        "from groundup.model.gpt import GPT\n"
        "from groundup.train.adamw import AdamW\n"
        "model = GPT(GPTConfig(vocab_size=5, d_model=8, n_layers=3, n_heads=1, layers='dwg',"
        " window=2), seed=1)\n"
        "optimizer = AdamW(model.named_parameters())\n"
        "ids = torch.ones(1, 4, dtype=torch.int64)\n"
        "model.loss(ids, ids).backward()\n"
        "optimizer.step()\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("share", [0.1, 0.999, 1.001, None])
def test_clipping_equals_torch(share: float | None) -> None:
    models = module(), module()
    for model in models:
        model(torch.ones(2, 5)).sum().backward()
        model[0].bias.grad = None
    wanted = torch.nn.utils.get_total_norm(
        [p.grad for p in models[1].parameters() if p.grad is not None]
    ).item()
    if share is not None:
        torch.nn.utils.clip_grad_norm_(models[1].parameters(), share * wanted)
    norm = clip_grad_norm(models[0].parameters(), None if share is None else share * wanted)
    assert norm == pytest.approx(wanted, rel=1e-6)
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7)


def test_clipping_one_parameter() -> None:
    weight = nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.full((2, 2), 2.0)
    assert clip_grad_norm(weight, 1) == 4.0
    assert torch.equal(weight.grad, torch.full((2, 2), 0.5))


def test_clipping_without_gradients_and_to_nothing() -> None:
    assert clip_grad_norm(module().parameters(), 1.0) == 0.0
    with pytest.raises(UserError, match="above 0"):
        clip_grad_norm([], 0.0)
