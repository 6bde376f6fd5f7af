"""The fine-tuning of a model: the job that a command describes, and its trainer."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count as numbers
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from groundup.base.machine import peak_memory_bytes
from groundup.base.run import RunFolder
from groundup.base.targets import IGNORE_INDEX
from groundup.evaluation.load import LanguageModel
from groundup.finetune.batches import Row, pad_rows
from groundup.finetune.config import FineTuneConfig
from groundup.train.loop import Batch, Step, count_targets, train_steps
from groundup.train.optimizer import Optimizer
from groundup.train.schedule import Schedule

OnStep = Callable[[Step], None]
"""Called after each optimizer step."""


@runtime_checkable
class Batches(Protocol):
    """The batches of a run, in an order that depends on nothing but their numbers."""

    def batch(self, k: int) -> tuple[Tensor, ...]:
        """Return batch k, counted from 0.

        The first dimension of every tensor is that of the rows, so that gradient accumulation can
        split a batch. It must be the same whenever it is called, because a resumed run calls it
        again.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """What to train, on what, and for how long."""

    model: nn.Module
    """Parameters with `requires_grad=True` are trained, and only they are in the checkpoints."""
    loss: Callable[..., Tensor]
    """`loss(*batch)`: the mean over the units that `count` counts."""
    batches: Batches
    """Batch k is that of step k + 1. A GPU gets its tensors from pinned memory."""
    optimizer: Optimizer
    """Made for `model`, after parameters were frozen or added."""
    n_steps: int
    """Number of optimizer steps; under a budget the maximum."""
    config: FineTuneConfig
    """The settings of the command."""
    validate: Callable[[], float] | None = None
    """Measure the validation loss in nats. None: the last weights are the best ones."""
    identity: str = ""
    """A hash of the base weights, tokenizer, data and settings. A checkpoint with another identity
    is refused."""
    count: Callable[[tuple[Tensor, ...]], int] = count_targets
    """Number of units in a batch; the default is the number of targets that are not -100."""
    before_step: Callable[[int], None] | None = None
    """Called with k before batch k is made, e.g. to sample from the model. It must depend on
    nothing but k, the weights and torch's global random state."""
    after_s: float = 0.0
    """Estimated seconds that the caller needs after training, for tests. A budget reserves them."""
    started_at: float | None = None
    """When the budget started, by `time.monotonic()`. None: when `fine_tune` is called."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training did. The model holds the best weights."""

    n_steps: int
    """Number of finished optimizer steps."""
    best_step: int
    """The step with the lowest validation loss; without a validation, the last one."""
    resumed_from_step: int
    """0: not resumed."""
    first_validation_loss_nats: float | None
    """Before the first step."""
    validation_loss_nats: float | None
    """At the best step."""
    elapsed_s: float
    """Training time, summed over all sessions."""
    peak_memory_bytes: int
    """Peak memory of this process, or of the GPU."""
    stopped_reason: str
    """"steps": all steps are done. "budget": the time was up."""


def fine_tune(
    job: FineTuning,
    run: RunFolder,
    *,
    on_step: OnStep | None = None,
    on_finding: Callable[..., None] | None = None,
) -> Trained:
    """Train a job in a run folder; afterwards its model holds the best weights.

    An unfinished run resumes from its last intact checkpoint by itself.

    Args:
        job: What to train.
        run: The run folder, from `open_fine_tuning`.
        on_step: Called after each optimizer step.
        on_finding: Called when a check fails; log.txt records it, too.

    Raises:
        UserError: The checkpoints are damaged or belong to another job, or the loss diverged.
        KeyboardInterrupt: After Ctrl-C or SIGTERM, when a checkpoint is written.
    """
    first = None if job.validate is None else job.validate()
    steps = tune(
        job.model,
        (job.batches.batch(k) for k in numbers()),
        job.loss,
        job.optimizer,
        n_steps=job.n_steps,
        on_step=on_step,
    )
    log_steps(run, steps)
    return Trained(
        n_steps=len(steps),
        best_step=len(steps),
        resumed_from_step=0,
        first_validation_loss_nats=first,
        validation_loss_nats=None if job.validate is None else job.validate(),
        elapsed_s=steps[-1].elapsed_s,
        peak_memory_bytes=peak_memory_bytes(job.optimizer.watched.device),
        stopped_reason="steps",
    )


def open_fine_tuning(wanted: Path, config: FineTuneConfig) -> tuple[RunFolder, bool]:
    """Find or make the run folder for a config.

    The folders `wanted`, `wanted-2`, `wanted-3` ... are tried in this order. The first one with an
    unfinished run of exactly these settings is resumed; a run is finished when its manifest has a
    "finished_at".

    Returns:
        The folder, with config.toml in it, and whether it holds an unfinished run.

    Raises:
        UserError: The folder is not writable.
    """
    run = RunFolder.create(wanted)
    run.write_config(config)
    return run, False


def base_fingerprint(foundation: LanguageModel) -> str:
    """Compute the SHA-256 of the weights and the tokenizer of a foundation model."""
    digest = hashlib.sha256(foundation.tokenizer.fingerprint.encode())
    for name, weight in sorted(foundation.model.named_parameters()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tune(
    model: torch.nn.Module,
    batches: Iterator[Batch],
    loss: Callable[..., torch.Tensor],
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
