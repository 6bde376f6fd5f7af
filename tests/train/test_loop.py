import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from groundup.base.errors import UserError
from groundup.train.loop import Batch, train_steps
from groundup.train.optimizer import Optimizer, OptimizerConfig
from groundup.train.schedule import Schedule
from groundup.train.step import Step


class Bigrams(nn.Module):
    """The smallest language model: one row of logits per token."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 5, bias=False)
        nn.init.normal_(self.head.weight, generator=torch.Generator().manual_seed(0))

    def loss(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = self.head.weight[ids]
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def batches(n_rows: int = 4) -> Iterator[Batch]:
    for k in itertools.count():
        ids = torch.randint(0, 5, (n_rows, 7), generator=torch.Generator().manual_seed(k))
        targets = (ids + 1) % 5
        targets[0, : k % 7] = -100
        targets[1, :] = -100  # a whole row that does not count
        yield ids, targets


def run(model: Bigrams, **options) -> list[Step]:
    n_steps = options.pop("n_steps", 12)
    optimizer = Optimizer(model, OptimizerConfig(name="adamw", learning_rate=0.3, weight_decay=0.0))
    return list(train_steps(batches(), model.loss, optimizer, Schedule(n_steps=n_steps), **options))


def test_learns_and_reports():
    model = Bigrams()
    steps = run(model, n_steps=60)
    assert [s.step for s in steps] == list(range(1, 61))
    assert steps[-1].loss_nats < 0.1 < steps[0].loss_nats
    assert steps[0].learning_rate == pytest.approx(0.3)
    assert steps[-1].learning_rate == pytest.approx(0.3 / 60)
    assert steps[0].weight_before != steps[0].weight == steps[1].weight_before
    assert steps[-1].eta_s == 0
    assert all(s.targets_per_s > 0 and s.grad_norm > 0 for s in steps)
    expected = sum(int((t != -100).sum()) for _, t in itertools.islice(batches(), 60))
    assert steps[-1].n_targets == expected


@pytest.mark.parametrize("grad_accumulation_steps", [2, 3, 4, 9])
def test_micro_batches_give_the_gradients_of_the_whole_batch(grad_accumulation_steps):
    whole, parts = Bigrams(), Bigrams()
    one = run(whole, n_steps=1)[0]
    many = run(parts, n_steps=1, grad_accumulation_steps=grad_accumulation_steps)[0]
    assert many.loss_nats == pytest.approx(one.loss_nats, rel=1e-6)
    # Sums of 28 numbers in another order: a few units in the last place of float32.
    torch.testing.assert_close(parts.head.weight.grad, whole.head.weight.grad, rtol=1e-5, atol=1e-7)


def test_clipping_shortens_the_gradient_and_reports_the_true_length():
    plain, clipped = Bigrams(), Bigrams()
    a = run(plain, n_steps=1)[0]
    b = run(clipped, n_steps=1, max_grad_norm=a.grad_norm / 2)[0]
    assert b.grad_norm == a.grad_norm
    assert plain.head.weight.grad is not None
    torch.testing.assert_close(clipped.head.weight.grad, plain.head.weight.grad / 2)


def test_validates_on_time_and_at_the_end():
    measured = iter(range(100))
    steps = run(Bigrams(), n_steps=7, validate=lambda: float(next(measured)), validate_every=3)
    assert [s.validation_loss_nats for s in steps] == [None, None, 0.0, None, None, 1.0, 2.0]


def test_goes_on_from_a_later_step():
    model = Bigrams()
    steps = run(model, n_steps=5, first_step=4, n_targets=1000, elapsed_s=50.0)
    assert [s.step for s in steps] == [4, 5]
    assert steps[0].n_targets > 1000
    assert steps[0].elapsed_s > 50


def test_not_a_number_names_the_cause():
    model = Bigrams()
    with torch.no_grad():
        model.head.weight[0, 0] = math.nan
    with pytest.raises(UserError, match=r"step 1 .*earlier update was too large.*learning_rate="):
        run(model)


def test_a_batch_without_targets_is_refused():
    model = Bigrams()
    empty = itertools.repeat((torch.zeros(1, 2).long(), torch.full((1, 2), -100)))
    steps = train_steps(iter(empty), model.loss, Optimizer(model), Schedule(n_steps=1))
    with pytest.raises(UserError, match="no target"):
        next(steps)
