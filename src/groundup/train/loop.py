"""The training loop: take a batch, compute the loss and the gradients, update the parameters.

Pretraining, the classifier and the assistant all use `train_steps`. It is a generator that yields a
`Step` after each update. The caller draws the progress bar, writes the metrics and checkpoints, or
stops; between two steps nothing is in progress, so a run is saved or stopped there. A GPU does not
wait for the caller: it computes the next step meanwhile, unless the caller needs it to `pause`.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from groundup.base.errors import UserError
from groundup.base.machine import memory_in_use_bytes
from groundup.base.targets import IGNORE_INDEX
from groundup.train.distributed import ALONE, World
from groundup.train.divergence import diverged
from groundup.train.optimizer import Optimizer
from groundup.train.schedule import ClockSchedule, Schedule
from groundup.train.sharding import first_number, gradients, is_shared
from groundup.train.step import Step

Batch = tuple[Tensor, ...]
"""Inputs, targets, and what else the loss needs. Row k of every tensor belongs to example k."""


def count_targets(batch: Batch) -> int:
    """Count the targets of a batch that are not ignored.

    >>> count_targets((torch.tensor([[5, 6, 7]]), torch.tensor([[-100, 7, 8]])))
    2
    """
    return int((batch[1] != IGNORE_INDEX).sum())


class Numbers:
    """Numbers of one step, in the order in which they are added.

    `Tensor.item()` waits until the device has finished all that was started before, and a GPU that
    waits for Python after every step stands still for several percent of the time. So its numbers
    are copied to main memory behind the kernels of their step, and read during the next one. No
    other code here reads a tensor of the step.

    Args:
        late: Read them when `read` is called. Otherwise each is read when it is added.

    >>> numbers = Numbers(late=True)
    >>> numbers.add(torch.tensor(2.5))
    >>> numbers.send()
    >>> numbers.read()
    [2.5]
    """

    def __init__(self, *, late: bool) -> None:
        self.late = late
        self._values: list[float] = []
        self._on_device: list[Tensor] = []
        self._copy: Tensor | None = None
        self._arrived: torch.cuda.Event | None = None

    def add(self, number: Tensor | float) -> None:
        """Add a number as it is now."""
        if isinstance(number, float):
            self._values.append(number)
        elif self.late:
            # A copy: the next kernels may change the tensor. float64 holds any float32.
            self._on_device.append(number.detach().to(torch.float64, copy=True))
        else:
            self._values.append(number.item())

    def send(self) -> None:
        """Start the copy to main memory, after the last number was added."""
        if not self.late:
            return
        together = torch.stack(self._on_device)
        self._copy = together.to("cpu", non_blocking=True)  # into pinned memory
        if together.is_cuda:
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()

    def read(self) -> list[float]:
        """Return the numbers. Wait until the device has computed them, and for nothing after it."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._values if self._copy is None else self._copy.tolist()


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """A step that the device may still be computing."""

    step: int
    n_steps: int
    rate: float
    counted: int
    n_targets: int
    began_at: float
    waited_s: float
    memory_bytes: int
    results: Numbers
    """The loss of each part of the batch, and the gradient norm."""
    checked: tuple[float, float] | None
    """The loss and the gradient norm, if they are read already."""
    weights: Numbers
    """The watched weight before and after the update."""


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
    pause: Callable[[int], bool] = lambda step: False,
    count: Callable[[Batch], int] = count_targets,
    world: World = ALONE,
    read_late: bool | None = None,
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
        pause: Whether no later step may begin before the caller has handled this one, e.g. because
            a checkpoint is due. Asked after each step if `read_late`; otherwise none ever begins.
        count: Number of units, such as targets, that the loss of a batch is the mean of.
        world: The processes that share the batches; `loss` averages the gradients over them.
        read_late: Begin the next step before the numbers of a step are read. None: on a GPU.

    Yields:
        A `Step` after each update.

    Raises:
        DivergedError: The loss, the gradient or the validation loss is NaN or infinite.
        UserError: A batch has no target that is not ignored.
    """
    device = optimizer.watched.device
    late = device.type == "cuda" if read_late is None else read_late
    # The gradient norm of shards is a sum over the processes, which clipping waits for.
    late = late and not any(is_shared(parameter) for parameter in optimizer.parameters)
    began_at = last_read_at = time.perf_counter()

    def clock_s() -> float:
        """Seconds since the start. Under a time budget all processes use the first one's clock."""
        own_s = elapsed_s + time.perf_counter() - began_at
        return world.of_first(own_s) if isinstance(schedule, ClockSchedule) else own_s

    def read(results: Numbers, step: int, rate: float) -> tuple[float, float]:
        """Return the loss and the gradient norm, which must be finite."""
        *parts, grad_norm = results.read()
        total = 0.0
        for part in parts:
            total += part
        (loss_nats,) = world.sum(total / world.size)
        if not (math.isfinite(loss_nats) and math.isfinite(grad_norm)):
            raise diverged(
                step, optimizer, rate, schedule.peak_frac, loss_nats=loss_nats, grad_norm=grad_norm
            )
        return loss_nats, grad_norm

    def finish(begun: _Begun, *, next_has_begun: bool = False) -> Step:
        nonlocal last_read_at
        loss_nats, grad_norm = begun.checked or read(begun.results, begun.step, begun.rate)
        weight_before, weight = begun.weights.read()
        began_or_read_at = max(begun.began_at, last_read_at)
        last_read_at = time.perf_counter()
        total_s = clock_s()
        n_left = begun.n_steps - begun.step
        return Step(
            step=begun.step,
            n_steps=begun.n_steps,
            loss_nats=loss_nats,
            learning_rate=begun.rate,
            grad_norm=grad_norm,
            weight_before=weight_before,
            weight=weight,
            n_targets=begun.n_targets,
            targets_per_s=begun.counted / (last_read_at - began_or_read_at),
            waited_s=begun.waited_s,
            elapsed_s=total_s,
            eta_s=(total_s - elapsed_s) / (begun.step - first_step + 1) * n_left,
            memory_bytes=begun.memory_bytes,
            next_has_begun=next_has_begun,
        )

    step = first_step - 1
    n_steps = schedule.expected_steps(step, world.of_first(elapsed_s))
    earlier: _Begun | None = None
    while n_steps > step:
        step += 1
        factor = schedule.factor(step, clock_s())
        step_began_at = time.perf_counter()
        taken = next(batches)
        waited_s = time.perf_counter() - step_began_at
        batch = tuple(to_device(tensor, device) for tensor in taken)
        # Counted where the loader has made them: reading a GPU's tensor would wait for it.
        counted = int(world.sum(count(taken))[0])  # in all processes
        if counted == 0:
            raise UserError(f"The batch of step {step} has no target: all of them are ignored.")
        world.reseed(step)
        optimizer.zero_grad()
        results, weights = Numbers(late=late), Numbers(late=late)
        for rows, taken_rows in zip(
            _parts(batch, grad_accumulation_steps),
            _parts(taken, grad_accumulation_steps),
            strict=True,
        ):
            some = count(taken_rows)
            if some == 0 and world.size == 1:
                continue  # its mean would be 0 / 0
            if some == 0:  # the other processes wait for these gradients, which are zero
                rows = (rows[0], rows[1].clamp(min=0), *rows[2:])
            part = loss(*rows) * (some * world.size / counted)
            part.backward()  # type: ignore[no-untyped-call]
            results.add(part)
        finite: Tensor | None = None
        if late:
            norm = _clip_on_device(optimizer.parameters, max_grad_norm)
            results.add(norm)
            finite = norm.isfinite()
        else:
            results.add(clip_grad_norm(optimizer.parameters, max_grad_norm, world=world))
        results.send()
        rate = optimizer.learning_rate * factor
        # If possible before the update, which would make the weights NaN as well.
        checked = None if late else read(results, step, rate)
        weights.add(first_number(optimizer.watched))
        optimizer.step(factor, finite)
        weights.add(first_number(optimizer.watched))
        weights.send()
        n_targets += counted
        due = validate_every is not None and step % validate_every == 0
        n_steps = schedule.expected_steps(step, clock_s())  # decides whether the run ends
        begun = _Begun(
            step=step,
            n_steps=n_steps,
            rate=rate,
            counted=counted,
            n_targets=n_targets,
            began_at=step_began_at,
            waited_s=waited_s,
            memory_bytes=memory_in_use_bytes(device),
            results=results,
            checked=checked,
            weights=weights,
        )
        if earlier is not None:
            yield finish(earlier, next_has_begun=True)
        earlier = begun
        validates = validate is not None and (due or n_steps == step)
        if late and not (validates or n_steps == step or pause(step)):
            continue
        done, earlier = finish(begun), None
        if validate is not None and validates:
            measured = validate()
            if not math.isfinite(measured):
                raise diverged(step, optimizer, rate, schedule.peak_frac)
            done = replace(done, validation_loss_nats=measured, elapsed_s=clock_s())
        yield done


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; a GPU copies it from pinned memory, without waiting."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _parts(batch: Batch, n_parts: int) -> Iterator[Batch]:
    """Split a batch for gradient accumulation."""
    yield from zip(*(tensor.chunk(n_parts) for tensor in batch), strict=True)


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


def _clip_on_device(
    parameters: list[torch.nn.Parameter], max_norm: float | None
) -> Float[Tensor, ""]:
    """Do what `clip_grad_norm` does, without reading the gradient norm."""
    parts = gradients(parameters)
    norm = torch.nn.utils.get_total_norm(parts).to(parameters[0].device)
    if max_norm is not None:
        torch._foreach_mul_(parts, (max_norm / norm).clamp(max=1.0))
    return norm
