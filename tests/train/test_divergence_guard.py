"""A validation loss that is not a number ends the run, although the training loss is one."""

import itertools
import math

import pytest
import torch

from groundup.train.divergence import DivergedError
from groundup.train.loop import train_steps
from groundup.train.optimizer import Optimizer, OptimizerConfig
from groundup.train.schedule import Schedule


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_validation_loss_that_is_not_finite_ends_the_run(broken: float) -> None:
    model = torch.nn.Linear(3, 3)
    optimizer = Optimizer(model, OptimizerConfig(name="adamw", learning_rate=0.1))
    batch = torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3, dtype=torch.long)
    losses = iter([1.0, broken])
    steps = train_steps(
        itertools.repeat(batch),
        lambda ids, targets: (model.weight**2).mean(),
        optimizer,
        Schedule(n_steps=10),
        validate=lambda: next(losses),
        validate_every=2,
    )
    assert [next(steps).validation_loss_nats for _ in range(3)] == [None, 1.0, None]
    with pytest.raises(DivergedError) as caught:
        next(steps)
    assert caught.value.step == 4
