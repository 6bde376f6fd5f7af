"""The training loop: take a batch, compute the loss and the gradients, update the parameters.

Pretraining, the classifier and the assistant all use `train_steps`. It is a generator that yields a
`Step` after each update. The caller draws the progress bar, writes the metrics and checkpoints, or
stops; between two steps nothing is in progress, so a run is saved or stopped there.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from groundup.base.errors import UserError
from groundup.base.machine import memory_in_use_bytes
from groundup.base.targets import IGNORE_INDEX
from groundup.train.distributed import ALONE, World
from groundup.train.optimizer import Optimizer
from groundup.train.schedule import ClockSchedule, Schedule
from groundup.train.sharding import first_number, gradients, is_shared

Batch = tuple[Tensor, ...]
"""Inputs, targets, and what else the loss needs. Row k of every tensor belongs to example k."""


def count_targets(batch: Batch) -> int:
    """Count the targets of a batch that are not ignored.

    >>> count_targets((torch.tensor([[5, 6, 7]]), torch.tensor([[-100, 7, 8]])))
    2
    """
    return int((batch[1] != IGNORE_INDEX).sum())


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step did."""

    step: int
    """Number of steps done, including this one."""
    n_steps: int
    """Steps of the run; under a time budget, the current estimate."""
    loss_nats: float
    """Mean loss per target of this batch, before the update."""
    learning_rate: float
    """Learning rate of the matrices in this step."""
    grad_norm: float
    """Gradient norm, before clipping."""
    weight_before: float
    """One weight of the model before the update; the same one at every step."""
    weight: float
    """That weight after the update."""
    n_targets: int
    """Targets trained on since the first step of the run."""
    targets_per_s: float
    """Targets per second in this step, without validation and checkpoints."""
    waited_s: float
    """Seconds of this step spent waiting for the loader."""
    elapsed_s: float
    """Seconds since the start of the run, summed over all sessions."""
    eta_s: float
    """Estimated seconds left, at the mean speed of this session."""
    memory_bytes: int
    """Memory of the process, or of the GPU, after this step."""
    validation_loss_nats: float | None = None
    """Mean loss on the validation set, at the steps where it was measured."""

    @property
    def lr(self) -> float:
        """The learning rate."""
        return self.learning_rate

    @property
    def tokens_per_s(self) -> float:
        """Targets per second."""
        return self.targets_per_s


class DivergedError(UserError):
    """The loss, a gradient or the weights are NaN or infinite.

    Args:
        step: The step at which it was noticed.
        message: What was found and what is expected.
        settings: Settings that help.
    """

    def __init__(self, step: int, message: str, settings: Mapping[str, object]) -> None:
        super().__init__(message, settings=settings)
        self.step = step


def train_steps(
    batches: Iterator[Batch],
    loss: Callable[..., Float[Tensor, ""]],
    optimizer: Optimizer,
    schedule: Schedule | ClockSchedule,
    *,
    first_step: int = 1,
    n_targets: int = 0,
    elapsed_s: float = 0.0,
    grad_accumulation_steps: int = 1,
    max_grad_norm: float | None = None,
    validate: Callable[[], float] | None = None,
    validate_every: int | None = None,
    count: Callable[[Batch], int] = count_targets,
    world: World = ALONE,
) -> Iterator[Step]:
    """Train, one step at a time, until the schedule's end.

    Args:
        batches: Endless batches, usually inputs and targets; a target of -100 is ignored.
        loss: Called with the tensors of a batch. Mean loss in nats over the units that `count`
            counts, e.g. `model.loss`: the mean over the targets that are not ignored.
        optimizer: Updates the parameters.
        schedule: The number of steps, or the time, and the learning rate of each step.
        first_step: 1, or the step after the last one of the checkpoint that is resumed.
        n_targets: Targets trained on before `first_step`.
        elapsed_s: Seconds spent before `first_step`.
        grad_accumulation_steps: Number of parts that a batch is split into to save memory. The
            gradients are those of the full batch: each part is weighted by its `count`.
        max_grad_norm: Clip the gradient norm to this value. None: no clipping.
        validate: Measures the validation loss in nats.
        validate_every: Steps between two validations. None: only after the last step, which is
            always validated.
        count: Number of units, such as targets, that the loss of a batch is the mean of.
        world: The processes that share the batches; `loss` averages the gradients over them.

    Yields:
        A `Step` after each update.

    Raises:
        DivergedError: The loss, the gradient or the validation loss is NaN or infinite.
        UserError: A batch has no target that is not ignored.
    """
    device = optimizer.watched.device
    began_at = time.perf_counter()

    def clock_s() -> float:
        """Seconds since the start. Under a time budget all processes use the first one's clock."""
        own_s = elapsed_s + time.perf_counter() - began_at
        return world.of_first(own_s) if isinstance(schedule, ClockSchedule) else own_s

    step = first_step - 1
    n_steps = schedule.expected_steps(step, world.of_first(elapsed_s))
    while n_steps > step:
        step += 1
        factor = schedule.factor(step, clock_s())
        step_began_at = time.perf_counter()
        taken = next(batches)
        waited_s = time.perf_counter() - step_began_at
        batch = tuple(tensor.to(device) for tensor in taken)
        counted = int(world.sum(count(batch))[0])  # in all processes
        if counted == 0:
            raise UserError(f"The batch of step {step} has no target: all of them are ignored.")
        world.reseed(step)
        optimizer.zero_grad()
        loss_nats = 0.0
        chunks = (tensor.chunk(grad_accumulation_steps) for tensor in batch)
        for rows in zip(*chunks, strict=True):
            some = count(rows)
            if some == 0 and world.size == 1:
                continue  # its mean would be 0 / 0
            if some == 0:  # the other processes wait for these gradients, which are zero
                rows = (rows[0], rows[1].clamp(min=0), *rows[2:])
            part = loss(*rows) * (some * world.size / counted)
            part.backward()  # type: ignore[no-untyped-call]
            loss_nats += part.item()
        (loss_nats,) = world.sum(loss_nats / world.size)
        grad_norm = clip_grad_norm(optimizer.parameters, max_grad_norm, world=world)
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
        due = validate_every is not None and step % validate_every == 0
        total_s = clock_s()
        n_steps = schedule.expected_steps(step, total_s)  # decides whether the run ends
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


def clip_grad_norm(
    parameters: Iterable[torch.nn.Parameter] | torch.nn.Parameter,
    max_norm: float | int | None,
    *,
    world: World = ALONE,
) -> float:
    """Scale all gradients by one factor, so that the gradient norm is at most `max_norm`.

    The gradient norm is the root of the sum of the squares of all gradients. If it is not above
    `max_norm`, nothing is changed; if it is NaN, neither.

    Args:
        parameters: Parameters, or one; those without a gradient are left out.
        max_norm: The highest gradient norm. None: measure only.
        world: The processes that share the parameters.

    Returns:
        The gradient norm before clipping.

    Raises:
        UserError: `max_norm` is not a positive number.

    Source: "On the difficulty of training Recurrent Neural Networks", algorithm 1.

    >>> weight = torch.nn.Parameter(torch.zeros(2))
    >>> weight.grad = torch.tensor([3.0, 4.0])
    >>> clip_grad_norm([weight], 1.0), weight.grad
    (5.0, tensor([0.6000, 0.8000]))
    """
    if max_norm is not None and not max_norm > 0:
        raise UserError(f"max_norm is {max_norm!r}. A number above 0 is expected.")
    parameters = [parameters] if isinstance(parameters, torch.nn.Parameter) else list(parameters)
    parts = gradients(parameters)
    norm: float = torch.nn.utils.get_total_norm(parts).item()
    if any(is_shared(parameter) for parameter in parameters):
        norm = world.sum(norm**2)[0] ** 0.5
    if max_norm is not None and norm > max_norm:
        torch._foreach_mul_(parts, max_norm / norm)
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
    """Describe a divergence: the step, what is NaN or infinite, and what helps.

    Args:
        step: The step at which it was noticed.
        optimizer: Holds the parameters.
        rate: The learning rate of the matrices in that step.
        peak_frac: The highest rate of the run, as a fraction of the full rate.
        loss_nats: The loss of its batch.
        grad_norm: The gradient norm of the batch.
    """
    if loss_nats is None or grad_norm is None:
        found = f"After step {step} the weights or the validation loss are NaN or infinite."
    else:
        found = f"At step {step} the loss is {loss_nats} and the gradient norm is {grad_norm}. "
        if not optimizer.weights_are_finite():
            found += "Some weights are NaN or infinite: an earlier update was too large."
        elif math.isfinite(loss_nats):
            found += "The loss is finite, but its gradient is not."
        else:
            found += "The weights are finite, so the activations overflowed."
    peak = optimizer.learning_rate * peak_frac
    return DivergedError(
        step,
        f"{found} Use a learning rate below {rate:.3g}, or clip the gradients.",
        {"learning_rate": float(f"{peak / 3:.2g}"), "max_grad_norm": 1.0},
    )
