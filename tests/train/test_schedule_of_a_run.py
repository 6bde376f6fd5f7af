"""The options of the schedule and of AdamW decide the rates and updates of a run."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_runs import settings
from torch import nn

from groundup.pretraining.pretrain import pretrain
from groundup.train.checkpoint_state import Progress
from groundup.train.optimizer import Optimizer, OptimizerConfig
from groundup.train.schedule import ClockSchedule, Schedule
from groundup.train.trainer import Trainer


def test_a_run_with_a_cosine_schedule(data: Path) -> None:
    rates = []
    config = settings(
        data, schedule="cosine", warmup_steps=2, final_frac=0.1, steps=8, learning_rate=0.01,
        sample_every=None,
    )  # fmt: skip
    pretrain(config, on_step=lambda step: rates.append(step.learning_rate))
    cosine = [0.1 + 0.9 * (1 + math.cos(math.pi * k / 6)) / 2 for k in range(6)]
    assert rates == pytest.approx([0.005, 0.01, *(0.01 * factor for factor in cosine)])
    stored = (config.out / "config.toml").read_text(encoding="utf-8")
    assert 'decay = "cosine"' in stored


def test_under_a_budget_the_clock_takes_the_shape() -> None:
    trainer: Any = Trainer.__new__(Trainer)
    schedule = Schedule(n_steps=100, warmup_steps=3, decay="cosine", decay_frac=0.5, final_frac=0.2)
    trainer.job = SimpleNamespace(schedule=schedule, warmup_frac=0.0, most_steps=None)
    trainer.progress = Progress(
        step=0, n_targets=0, elapsed_s=0.0, loader={}, tokenizer_fingerprint="", steps_s=60.0
    )
    assert trainer._schedule() == ClockSchedule(
        seconds=60.0, warmup_steps=3, decay="cosine", decay_frac=0.5, final_frac=0.2
    )


def test_betas_and_eps_reach_adamw() -> None:
    models = nn.Linear(3, 2, bias=False), nn.Linear(3, 2, bias=False)
    models[1].load_state_dict(models[0].state_dict())
    ours = Optimizer(
        models[0],
        OptimizerConfig(
            name="adamw", learning_rate=0.1, weight_decay=0.2, adam_beta1=0.5, adam_beta2=0.6,
            adam_eps=0.7,
        ),
    )  # fmt: skip
    theirs = torch.optim.AdamW(
        models[1].parameters(), lr=0.1, weight_decay=0.2, betas=(0.5, 0.6), eps=0.7
    )
    for seed in range(3):
        for model in models:
            generator = torch.Generator().manual_seed(seed)
            model.weight.grad = torch.randn(2, 3, generator=generator)
        ours.step(1.0)
        theirs.step()
    torch.testing.assert_close(models[0].weight, models[1].weight)
