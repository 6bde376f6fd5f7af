"""What a fine-tuning run costs: tokens, steps, time, memory and disk, measured before it starts.

Tokens are counted in the batches of the run. The time is measured on some of them, small and large
ones, without changing the weights; a line through these points gives the time of every batch.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from groundup.base.machine import memory_in_use_bytes, peak_memory_bytes
from groundup.base.targets import IGNORE_INDEX
from groundup.finetune.batch_stream import BatchStream
from groundup.finetune.job import FineTuning
from groundup.finetune.memory import checkpoint_bytes
from groundup.finetune.number_format import mixed_precision, validation_of
from groundup.train.checkpoint import trained_parameters
from groundup.train.loop import Batch

_MOST_COUNTED = 2_000
"""Of longer runs, this many batches are counted, spread evenly."""
_N_PROBES = 4
_LEAST_RANGE = 0.15
"""The time of a run is not known better than this, as a fraction."""
_DISK_BYTES_PER_S = 2e8


@dataclass(frozen=True, kw_only=True)
class FineTuningPlan:
    """What a fine-tuning run will cost."""

    n_steps: int
    n_tokens: int
    """Tokens of all steps, without padding."""
    n_targets: int
    """Units that the loss is the mean of, usually trained tokens, of all steps."""
    n_parameters: int
    n_trained_parameters: int
    step_s: float
    """Mean seconds per step, measured."""
    validation_s: float
    """Seconds of all validations."""
    checkpoints_s: float
    """Estimated seconds of all checkpoints, which are written while training goes on."""
    start_s: float
    """Seconds from the start of the command to its first step."""
    after_s: float
    """Estimated seconds of the tests at the end."""
    total_s: tuple[float, float, float]
    """Seconds of the command: lowest, expected and highest."""
    peak_memory_bytes: int
    """Peak memory of the process, or of the GPU."""
    checkpoint_bytes: int
    """Size of one checkpoint."""
    disk_bytes: int
    """Size of all checkpoints that exist at the same time."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Tokens and targets of the batches of a run, or of an even sample of them."""

    numbers: tuple[int, ...]
    """k of each batch."""
    n_tokens: tuple[int, ...]
    n_targets: tuple[int, ...]

    @property
    def mean_tokens(self) -> float:
        """Mean number of tokens of a batch."""
        return sum(self.n_tokens) / len(self.numbers)

    @property
    def mean_targets(self) -> float:
        """Mean number of targets of a batch."""
        return sum(self.n_targets) / len(self.numbers)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Measured seconds of a mean step, and how far the points are from the line through them."""

    step_s: float
    spread_frac: float


def plan_fine_tuning(job: FineTuning) -> FineTuningPlan:
    """Estimate the cost of a run. The optimizer state is changed, so that no run can follow.

    Raises:
        UserError: `check_memory` refuses the run.
    """
    began_at = time.monotonic() if job.started_at is None else job.started_at
    device = job.optimizer.watched.device
    sizes = count_batches(job)
    start_s = time.monotonic() - began_at
    validation_s = 0.0
    validate = validation_of(job, mixed_precision(job))
    if validate is not None:
        before = time.monotonic()
        validate()
        validation_s = time.monotonic() - before
    speed = measure_steps(job, sizes)
    every = interval(job.config.validate_every, job.n_steps)
    n_validations = 0 if job.validate is None else 1 + math.ceil(job.n_steps / every)
    size = checkpoint_bytes(job)
    n_checkpoints = math.ceil(job.n_steps / interval(job.config.checkpoint_every, job.n_steps))
    steps_s, checkpoints_s = job.n_steps * speed.step_s, n_checkpoints * size / _DISK_BYTES_PER_S
    fixed_s = start_s + n_validations * validation_s + job.after_s
    total_s = fixed_s + steps_s + size / _DISK_BYTES_PER_S  # only the last one is waited for
    range_frac = max(_LEAST_RANGE, 2 * speed.spread_frac)
    copy = size if device.type == "cpu" else 0
    return FineTuningPlan(
        n_steps=job.n_steps,
        n_tokens=round(sizes.mean_tokens * job.n_steps),
        n_targets=round(sizes.mean_targets * job.n_steps),
        n_parameters=sum(p.numel() for p in job.model.parameters()),
        n_trained_parameters=sum(p.numel() for p in trained_parameters(job.model).values()),
        step_s=speed.step_s,
        validation_s=n_validations * validation_s,
        checkpoints_s=checkpoints_s,
        start_s=start_s,
        after_s=job.after_s,
        total_s=(total_s / (1 + range_frac), total_s, total_s * (1 + range_frac)),
        peak_memory_bytes=max(peak_memory_bytes(device), memory_in_use_bytes(device) + copy),
        checkpoint_bytes=size,
        disk_bytes=size * (job.config.keep_checkpoints + 2),
    )


def interval(given: int | None, n_steps: int) -> int:
    """Return the steps between two validations or checkpoints: as given, or for eight of them."""
    return given or max(1, n_steps // 8)


def count_batches(job: FineTuning) -> Sizes:
    """Count the tokens and targets of the batches; of long runs, those of an even sample."""
    n = 1 if job.before_step is not None else min(job.n_steps, _MOST_COUNTED)
    numbers = tuple(k * job.n_steps // n for k in range(n))
    batches = [_raw_batch(job, k) for k in numbers]
    return Sizes(
        numbers=numbers,
        n_tokens=tuple(count_tokens(batch) for batch in batches),
        n_targets=tuple(job.count(batch) for batch in batches),
    )


def count_tokens(batch: Batch) -> int:
    """Count the tokens of a batch without its padding: in each row up to the last target.

    >>> ids, targets = torch.tensor([[5, 6, 0], [7, 8, 9]]), torch.tensor([[6, 2, -100], [8, 9, 2]])
    >>> count_tokens((ids, targets))
    5
    """
    first = batch[0]
    shape = first.shape[:2] if first.is_floating_point() else first.shape  # states: (B, T, C)
    if len(batch) < 2 or batch[1].shape != shape or first.ndim < 2:
        return first.numel()
    is_target = batch[1] != IGNORE_INDEX
    places = torch.arange(1, shape[-1] + 1, device=first.device)
    return int((is_target * places).amax(dim=-1).sum())


def measure_steps(job: FineTuning, sizes: Sizes) -> Speed:
    """Measure steps on batches of different sizes; weights and random state stay as they are.

    The optimizer is called at a learning rate of zero, which leaves its state changed until the
    state is set to zero again: that of a new run.
    """
    device = job.optimizer.watched.device
    stream = BatchStream(job.batches, device)
    mixed = mixed_precision(job)
    order = sorted(range(len(sizes.numbers)), key=lambda i: sizes.n_tokens[i])
    places = [round(q * (len(order) - 1)) for q in np.linspace(1.0, 0.0, _N_PROBES)]
    chosen = [order[place] for place in dict.fromkeys(places)]
    xs, ys = [], []
    with _unchanged(job):
        for i in [chosen[0], *chosen, *chosen[:1]]:
            k = sizes.numbers[i]
            _wait(device)
            before = time.monotonic()
            if job.before_step is not None:
                job.before_step(k)
            batch = stream.batch(k)
            total = job.count(batch)
            chunks = (tensor.chunk(job.config.grad_accumulation_steps) for tensor in batch)
            for rows in zip(*chunks, strict=True):
                if some := job.count(rows):
                    part = mixed.run(lambda model, *rows: job.loss(*rows), *rows) * (some / total)
                    part.backward()  # type: ignore[no-untyped-call]
            job.optimizer.step(0.0)
            job.optimizer.zero_grad()
            _wait(device)
            xs.append(float(sizes.n_tokens[i]))
            ys.append(time.monotonic() - before)
    return _fit(xs[1:], ys[1:], sizes)  # the first one starts threads


def _fit(xs: list[float], ys: list[float], sizes: Sizes) -> Speed:
    """Put a line through the points, or the mean where it would fall or start below zero."""
    slope, start = np.polyfit(xs, ys, 1) if len(set(xs)) > 1 else (0.0, float(np.mean(ys)))
    if slope < 0:
        slope, start = 0.0, float(np.mean(ys))
    elif start < 0:
        slope, start = sum(ys) / sum(xs), 0.0
    step_s = float(start + slope * sizes.mean_tokens)
    off = [abs(start + slope * x - y) for x, y in zip(xs, ys, strict=True)]
    return Speed(step_s=step_s, spread_frac=float(np.mean(off)) / step_s)


@contextmanager
def _unchanged(job: FineTuning) -> Iterator[None]:
    was_training = job.model.training
    job.model.train()
    try:
        with _same_random_state(job):
            yield
    finally:
        job.optimizer.zero_grad()
        for tensor in job.optimizer.state().values():
            tensor.zero_()
        job.model.train(was_training)


def _raw_batch(job: FineTuning, k: int) -> Batch:
    if job.before_step is not None:
        with _same_random_state(job):
            job.before_step(k)
    return job.batches.batch(k)


@contextmanager
def _same_random_state(job: FineTuning) -> Iterator[None]:
    """Leave torch's random state, also that of the GPU, as it was before the block."""
    watched = job.optimizer.watched
    with torch.random.fork_rng([watched.device] if watched.is_cuda else []):
        yield


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
