"""The time of a step on this machine, measured by a few real steps that are thrown away."""

import statistics
import time
from dataclasses import dataclass
from itertools import pairwise

from groundup.train.build import prepare_training, validation_sets
from groundup.train.config import PretrainConfig
from groundup.train.data import Data
from groundup.train.loop import train_steps
from groundup.train.schedule import ClockSchedule

_WINDOWS = 32
"""Fewest windows of the validation set for measuring the time of a validation."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Measured times."""

    step_s: float
    """Median seconds of a step."""
    window_s: float
    """Seconds of a validation per window."""
    compile_s: float = 0.0
    """Seconds for compiling, if requested. Later starts use parts of it from a cache."""


def probe(config: PretrainConfig, data: Data, seconds: float) -> Speed:
    """Make real steps for about this long, at least two, and measure their time.

    Several processes do so together, and all return what the first measured.

    Args:
        config: The settings of the run.
        data: Its text.
        seconds: How long to measure.
    """
    setup = prepare_training(config, data)
    began_at = time.perf_counter()
    if config.hardware.compile == "on":
        setup.compile_now()
    compile_s = time.perf_counter() - began_at
    steps = train_steps(
        setup.batches,
        setup.training_loss,
        setup.optimizer,
        ClockSchedule(seconds=seconds, warmup_steps=10),
        grad_accumulation_steps=config.hardware.grad_accumulation_steps,
        max_grad_norm=config.optimizer.max_grad_norm,
        world=setup.world,
    )
    done = [step.elapsed_s for step in steps]
    spans = [later - before for before, later in pairwise(done)]  # the first one starts threads
    n_windows = min(len(windows) for windows in validation_sets(config, data))
    n_windows = min(
        max(config.batch_size, _WINDOWS), config.validation.validation_windows, n_windows
    )
    world = setup.world
    step_s = world.of_first(statistics.median(spans))
    if step_s > seconds:  # a slow model is validated only once, and on less
        n_windows = min(n_windows, max(1, config.batch_size // 4))
    else:
        setup.validate(n_windows)  # the first time is slower
    began_at = time.perf_counter()
    setup.validate(n_windows)
    window_s = (time.perf_counter() - began_at) / n_windows
    return Speed(
        step_s=step_s,
        window_s=world.of_first(window_s),
        compile_s=world.of_first(compile_s) if config.hardware.compile == "on" else 0.0,
    )
