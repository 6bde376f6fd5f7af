"""The training loop with the settings that fine-tuning shares, its loss and its metrics."""

from collections.abc import Callable, Iterator, Sequence

import torch

from groundup.base.run import RunFolder
from groundup.base.targets import IGNORE_INDEX
from groundup.finetune.batches import Row, pad_rows
from groundup.train.loop import Batch, Step, train_steps
from groundup.train.optimizer import Optimizer
from groundup.train.schedule import Schedule

OnStep = Callable[[Step], None]
"""Called after each optimizer step."""


def tune(
    model: torch.nn.Module,
    batches: Iterator[Batch],
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    optimizer: Optimizer,
    *,
    n_steps: int,
    on_step: OnStep | None,
) -> list[Step]:
    """Run the training loop to its end and return its steps.

    A short warmup keeps the large gradients of the first batches from destroying what the model
    learned in pretraining. Afterwards the learning rate decays linearly to zero. No checkpoints
    are written: a run that is interrupted has to start again from the beginning.
    """
    model.train()
    schedule = Schedule(n_steps=n_steps, warmup_steps=min(10, n_steps // 2), decay_frac=0.8)
    steps: list[Step] = []
    for step in train_steps(batches, loss, optimizer, schedule, max_grad_norm=1.0):
        steps.append(step)
        if on_step is not None:
            on_step(step)
    model.eval()
    return steps


def mean_loss(model: torch.nn.Module, rows: Sequence[Row], *, batch_size: int = 32) -> float:
    """Compute the mean loss in nats over all targets of the rows, each target weighted equally.

    Args:
        model: Any model with `loss(ids, targets)`: the mean over the targets that are not -100.
        rows: The rows to evaluate.
        batch_size: Number of rows per batch. The result does not depend on it.
    """
    if not rows:
        raise ValueError("There are no rows to compute the loss on.")
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    loss = model.loss
    assert callable(loss)
    total, n_targets = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(rows), batch_size):
            some = rows[start : start + batch_size]
            targets = pad_rows([t for _, t in some], pad=IGNORE_INDEX).to(device)
            ids = pad_rows([i for i, _ in some], pad=0).to(device)
            n = int((targets != IGNORE_INDEX).sum())
            total += float(loss(ids, targets)) * n
            n_targets += n
    model.train(was_training)
    return total / n_targets


def log_steps(run: RunFolder, steps: Sequence[Step]) -> None:
    """Write the steps of a finished training loop to metrics.jsonl."""
    for step in steps:
        run.log_metrics(
            step=step.step,
            loss_nats=step.loss_nats,
            learning_rate=step.learning_rate,
            elapsed_s=step.elapsed_s,
        )
