"""The numbers of a step are read while the next one is computed, as on a GPU."""

import itertools
import math
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_runs import KilledError, assert_same_weights, kill_at, settings
from torch.utils._python_dispatch import TorchDispatchMode

from groundup.base.errors import UserError
from groundup.base.run import RunFolder
from groundup.pretraining import pretrain as pretrain_module
from groundup.pretraining.pretrain import pretrain
from groundup.train.divergence import DivergedError
from groundup.train.loop import Numbers, train_steps
from groundup.train.optimizer import Optimizer, OptimizerConfig
from groundup.train.precision import MixedPrecision
from groundup.train.schedule import Schedule
from groundup.train.step import Step


class Bigrams(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(5, 5, bias=False)
        torch.nn.init.normal_(self.head.weight, generator=torch.Generator().manual_seed(0))

    def loss(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self.head.weight[ids].flatten(0, 1), targets.flatten())


def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for k in itertools.count():
        ids = torch.randint(0, 5, (4, 7), generator=torch.Generator().manual_seed(k))
        targets = (ids + 1) % 5
        targets[0, : k % 7] = -100
        yield ids, targets


def run(n_steps: int = 6, **options: Any) -> list[Step]:
    model = Bigrams()
    optimizer = Optimizer(model, OptimizerConfig(name="adamw", learning_rate=0.3, weight_decay=0.0))
    steps = train_steps(batches(), model.loss, optimizer, Schedule(n_steps=n_steps), **options)
    return list(steps)


def numbers(step: Step) -> tuple[float, ...]:
    return step.loss_nats, step.grad_norm, step.weight_before, step.weight, step.n_targets


@pytest.mark.parametrize("parts", [1, 3])
def test_every_step_reports_the_same(parts: int) -> None:
    for max_norm in (None, 1e-3):
        options: dict[str, Any] = {"grad_accumulation_steps": parts, "max_grad_norm": max_norm}
        plain, late = run(**options), run(read_late=True, **options)
        assert [step.step for step in late] == [1, 2, 3, 4, 5, 6]
        for one, other in zip(plain, late, strict=True):
            assert numbers(other) == pytest.approx(numbers(one), rel=1e-5)


def test_the_next_step_begins_unless_the_caller_needs_a_pause() -> None:
    assert not any(step.next_has_begun for step in run())
    measured = iter([1.0, 2.0])
    steps = run(
        read_late=True,
        pause=lambda step: step == 2,
        validate=lambda: next(measured),
        validate_every=4,
    )
    assert [step.step for step in steps if not step.next_has_begun] == [2, 4, 6]
    assert [step.validation_loss_nats for step in steps] == [None] * 3 + [1.0, None, 2.0]


class _Reads(TorchDispatchMode):
    """Counts the numbers that are read from tensors, for which a GPU would have to be waited."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_no_tensor_is_read_but_by_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    read = Numbers.read
    monkeypatch.setattr(Numbers, "read", lambda self: order.append("read") or read(self))
    forward = Bigrams.loss
    monkeypatch.setattr(Bigrams, "loss", lambda *rows: order.append("step") or forward(*rows))
    with _Reads() as reads:
        run(read_late=True, max_grad_norm=1.0, count=lambda batch: batch[1].numel())
    assert reads.n == 0
    # Two for each step, after the next one has begun.
    each = ["step", "read", "read"]
    assert order == ["step", *each * 5, "read", "read"]


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    make = pretrain_module.pretraining_job
    monkeypatch.setattr(
        pretrain_module, "pretraining_job", lambda *parts: replace(make(*parts), read_late=True)
    )


@pytest.mark.usefixtures("late")
def test_a_run_writes_what_it_writes_otherwise(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late_run = settings(data, out=data.parent / "late")
    pretrain(late_run)
    broken = settings(data, out=data.parent / "broken")
    with pytest.raises(KilledError):
        pretrain(broken, kill_at(7))
    pretrain(broken)
    monkeypatch.undo()
    plain = settings(data)
    pretrain(plain)
    assert_same_weights(plain.out, late_run.out)
    assert_same_weights(plain.out, broken.out)
    kept = ("step", "loss_nats", "validation_loss_nats", "grad_norm", "weight", "n_targets")
    rows = [
        [[row.get(name) for name in kept] for row in RunFolder(out).read_metrics()]
        for out in (plain.out, late_run.out, broken.out)
    ]
    assert rows[0] == rows[1] == rows[2]


@pytest.mark.usefixtures("late")
def test_ctrl_c_ends_the_step_that_has_begun(data: Path) -> None:
    def interrupt(step: Step) -> None:
        if step.step == 7:
            assert step.next_has_begun
            signal.raise_signal(signal.SIGINT)

    config = settings(data, checkpoint_every=100, validate_every=None, sample_every=None)
    whole = replace(config, out=data.parent / "whole")
    pretrain(whole)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, interrupt)
    assert (config.out / "checkpoints" / "latest").read_text() == "step-000008\n"
    assert pretrain(config).resumed_from_step == 8
    assert_same_weights(whole.out, config.out)


@pytest.mark.usefixtures("late")
def test_divergence_is_noticed_before_a_checkpoint_and_names_its_step(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, n_calls = MixedPrecision.forward, 0

    def diverging(self: Any, *rows: Any, **options: Any) -> torch.Tensor:
        nonlocal n_calls
        n_calls += torch.is_grad_enabled()
        loss: torch.Tensor = forward(self, *rows, **options)
        return loss * math.nan if n_calls == 4 and torch.is_grad_enabled() else loss

    monkeypatch.setattr(MixedPrecision, "forward", diverging)
    config = settings(data, validate_every=None, checkpoint_every=5, sample_every=None)
    with pytest.raises(UserError, match=r"At step 4 the loss is nan.*The weights are finite") as it:
        pretrain(config)
    assert isinstance(it.value, DivergedError)
    assert it.value.step == 4
    assert n_calls == 5, "step 5 had begun"
    assert not RunFolder(config.out).checkpoints()
