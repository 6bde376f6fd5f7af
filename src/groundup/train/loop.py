"""The one training loop: take a batch, measure the loss, find the gradients, move the parameters.

Pretraining, the classifier and the assistant all run through `train_steps`. It is a generator: it
hands out a `Step` after each move, and whoever reads them draws the bar, writes the metrics and the
checkpoints, or stops. Between two steps everything is at rest, so that is where to save or leave.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from groundup.base.errors import UserError
from groundup.base.machine import memory_in_use_bytes
from groundup.base.targets import IGNORE_INDEX
from groundup.train.distributed import ALONE, World
from groundup.train.optimizer import Optimizer
from groundup.train.schedule import ClockSchedule, Schedule
from groundup.train.sharding import first_number, gradients, is_shared

Batch = tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]
"""Inputs and targets."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step did."""

    step: int
    """Steps done, this one included."""
    n_steps: int
    """Steps of the whole run; under a budget of time, as expected now."""
    loss_nats: float
    """Mean loss of this batch before the move, per target."""
    learning_rate: float
    """Rate of the matrices in this step."""
    grad_norm: float
    """Length of the whole gradient, before any clipping."""
    weight_before: float
    """One weight of the model before the move; it is the same one at every step."""
    weight: float
    """That weight after the move."""
    n_targets: int
    """Targets learnt from since the first step of the run."""
    targets_per_s: float
    """Targets a second in this step; validation and checkpoints are not counted."""
    waited_s: float
    """Seconds of this step in which the loader was waited for."""
    elapsed_s: float
    """Seconds since the run began, all sessions added."""
    eta_s: float
    """Seconds still to go, at the mean pace of this session."""
    memory_bytes: int
    """What the process, or the GPU, holds after this step."""
    validation_loss_nats: float | None = None
    """Mean loss on the validation text, on the steps where it was measured."""

    @property
    def lr(self) -> float:
        """The learning rate."""
        return self.learning_rate

    @property
    def tokens_per_s(self) -> float:
        """Targets a second."""
        return self.targets_per_s


class DivergedError(UserError):
    """The loss, a gradient or the weights are no numbers any more.

    Args:
        step: The step it was noticed at.
        found: What was seen.
        need: What would be right.
        type_this: Options that lead out.
    """

    def __init__(self, step: int, found: str, *, need: str, type_this: str) -> None:
        super().__init__(found, need=need, type_this=type_this)
        self.step = step


def train_steps(
    batches: Iterator[Batch],
    loss: Callable[[Tensor, Tensor], Float[Tensor, ""]],
    optimizer: Optimizer,
    schedule: Schedule | ClockSchedule,
    *,
    first_step: int = 1,
    n_targets: int = 0,
    elapsed_s: float = 0.0,
    n_micro_batches: int = 1,
    max_grad_norm: float | None = None,
    validate: Callable[[], float] | None = None,
    validate_every: int = 0,
    world: World = ALONE,
) -> Iterator[Step]:
    """Train, one step at a time, until the schedule's end.

    Args:
        batches: Inputs and targets, without end; a target of -100 does not count.
        loss: Mean loss in nats over the targets that count, e.g. `model.loss`.
        optimizer: Moves the parameters.
        schedule: Says how many steps there are, or seconds, and how fast each is.
        first_step: 1, or one more than the steps done by the checkpoint one goes on from.
        n_targets: Targets learnt from before `first_step`.
        elapsed_s: Seconds spent before `first_step`.
        n_micro_batches: Into how many parts a batch is cut to save memory. The gradients are those
            of the whole batch: each part weighs as much as it has targets.
        max_grad_norm: Longer gradients are shortened to this; None: never.
        validate: Measures the validation loss in nats.
        validate_every: Steps between two validations; the last step is always validated.
        world: The processes that share the batches; `loss` averages the gradients over them.

    Yields:
        A `Step` after each move.

    Raises:
        DivergedError: The loss or the gradient is not a number.
        UserError: A batch has no target that counts.
    """
    device = optimizer.watched.device
    began_at = time.perf_counter()

    def clock_s() -> float:
        """Seconds since the run began; where they decide, by the clock of the first process."""
        own_s = elapsed_s + time.perf_counter() - began_at
        return world.of_first(own_s) if isinstance(schedule, ClockSchedule) else own_s

    step = first_step - 1
    n_steps = schedule.expected_steps(step, world.of_first(elapsed_s))
    while n_steps > step:
        step += 1
        factor = schedule.factor(step, clock_s())
        step_began_at = time.perf_counter()
        inputs, targets = next(batches)
        waited_s = time.perf_counter() - step_began_at
        inputs, targets = inputs.to(device), targets.to(device)
        counted = int(world.sum(int((targets != IGNORE_INDEX).sum()))[0])  # in all processes
        if counted == 0:
            raise UserError(f"the batch of step {step} has no target to learn from")
        world.reseed(step)
        optimizer.zero_grad()
        loss_nats = 0.0
        for some_inputs, some_targets in zip(
            inputs.chunk(n_micro_batches), targets.chunk(n_micro_batches), strict=True
        ):
            some = int((some_targets != IGNORE_INDEX).sum())
            if some == 0:
                continue  # its mean would be 0 / 0
            part = loss(some_inputs, some_targets) * (some * world.size / counted)
            part.backward()  # type: ignore[no-untyped-call]
            loss_nats += part.item()
        (loss_nats,) = world.sum(loss_nats / world.size)
        grad_norm = _clip(optimizer, max_grad_norm, world)
        rate = optimizer.learning_rate * factor
        if not (math.isfinite(loss_nats) and math.isfinite(grad_norm)):
            raise diverged(
                step, optimizer, rate, schedule.peak_frac, loss_nats=loss_nats, grad_norm=grad_norm
            )
        weight_before = first_number(optimizer.watched)
        optimizer.step(factor)
        weight = first_number(optimizer.watched)
        now = time.perf_counter()
        n_targets += counted
        step_s = now - step_began_at
        due = validate_every > 0 and step % validate_every == 0
        total_s = clock_s()
        n_steps = schedule.expected_steps(step, total_s)  # the one place that decides on the end
        measured = validate() if validate and (due or n_steps == step) else None
        if measured is not None and not math.isfinite(measured):
            raise diverged(step, optimizer, rate, schedule.peak_frac)
        total_s = clock_s() if measured is not None else total_s
        yield Step(
            step=step,
            n_steps=n_steps,
            loss_nats=loss_nats,
            learning_rate=rate,
            grad_norm=grad_norm,
            weight_before=weight_before,
            weight=weight,
            n_targets=n_targets,
            targets_per_s=counted / step_s,
            waited_s=waited_s,
            elapsed_s=total_s,
            eta_s=(total_s - elapsed_s) / (step - first_step + 1) * (n_steps - step),
            memory_bytes=memory_in_use_bytes(device),
            validation_loss_nats=measured,
        )


def _clip(optimizer: Optimizer, max_grad_norm: float | None, world: World) -> float:
    parts = gradients(optimizer.parameters)
    norm: float = torch.nn.utils.get_total_norm(parts).item()
    if any(is_shared(parameter) for parameter in optimizer.parameters):
        norm = world.sum(norm**2)[0] ** 0.5
    if max_grad_norm is not None and norm > max_grad_norm:
        torch._foreach_mul_(parts, max_grad_norm / norm)
    return norm


def diverged(
    step: int,
    optimizer: Optimizer,
    rate: float,
    peak_frac: float,
    *,
    loss_nats: float | None = None,
    grad_norm: float | None = None,
) -> DivergedError:
    """Say at which step what was no number any more, why, and what would help.

    Args:
        step: The step it was noticed at.
        optimizer: Whose parameters are looked at.
        rate: How fast the matrices moved in that step.
        peak_frac: What share of the full rate the run rose to.
        loss_nats: The loss of its batch.
        grad_norm: The length of its gradient.
    """
    if loss_nats is None or grad_norm is None:
        seen = f"after step {step} the weights, or the loss on held-out text, are no numbers"
    else:
        seen = f"at step {step} the loss is {loss_nats} and the gradient's length {grad_norm}"
        if not optimizer.weights_are_finite():
            seen += " (the weights are no numbers any more: an earlier step went too far)"
        elif math.isfinite(loss_nats):
            seen += " (the loss is a number, its gradient is not)"
        else:
            seen += " (the weights are numbers, so the activations have overflowed)"
    peak = optimizer.learning_rate * peak_frac
    return DivergedError(
        step,
        seen,
        need=f"a learning rate below {rate:.3g}, or gradients kept short",
        type_this=f"--learning-rate {peak / 3:.2g} --max-grad-norm 1",
    )
