"""The time of a step on this machine, measured by a few real steps that are thrown away."""

import math
import statistics
import time
from dataclasses import dataclass
from itertools import pairwise

from groundup.base.fields import replace_settings
from groundup.model.count import flops_per_token
from groundup.train.build import Setup, prepare_training, validation_sets
from groundup.train.config import PretrainConfig
from groundup.train.data import Data
from groundup.train.distributed import n_processes
from groundup.train.loop import train_steps
from groundup.train.schedule import ClockSchedule

_LONG = 2**13
"""Tokens of a window that stands for a much longer one."""
_WINDOWS = 32
"""Fewest windows of the validation set for measuring the time of a validation."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Measured times."""

    step_s: float
    """Median seconds of a step."""
    window_s: float
    """Seconds of a validation per window; not a number, if it was not measured."""
    compile_s: float = 0.0
    """Seconds for compiling, if requested. Later starts use parts of it from a cache."""


def probe(config: PretrainConfig, data: Data, seconds: float, *, validates: bool = True) -> Speed:
    """Make real steps for about this long, at least two, and measure their time.

    Several processes do so together, and all return what the first measured.

    Args:
        config: The settings of the run.
        data: Its text.
        seconds: How long to measure.
        validates: Measure a validation, too.
    """
    n_rows = config.batch_size // n_processes()
    config, times = _shortened(replace_settings(config, warmup_steps=0))
    n_rows = 1 if times == 1.0 else n_rows
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
    step_s = setup.world.of_first(statistics.median(spans))
    window_s = math.nan
    if validates:
        window_s = times / n_rows * _validation_window_s(setup, is_slow=step_s > seconds)
    return Speed(
        step_s=times * step_s,
        window_s=window_s,
        compile_s=setup.world.of_first(compile_s) if config.hardware.compile == "on" else 0.0,
    )


def _validation_window_s(setup: Setup, *, is_slow: bool) -> float:
    """Measure a validation. A slow model is validated only once, and on less."""
    config = setup.config
    n_windows = min(len(windows) for windows in validation_sets(config, setup.data))
    n_windows = min(
        max(config.batch_size, _WINDOWS), config.validation.validation_windows, n_windows
    )
    if is_slow:
        n_windows = min(n_windows, max(1, config.batch_size // 4))
    else:
        setup.validate(n_windows)  # the first time is slower
    began_at = time.perf_counter()
    setup.validate(n_windows)
    return setup.world.of_first((time.perf_counter() - began_at) / n_windows)


def _shortened(config: PretrainConfig) -> tuple[PretrainConfig, float]:
    """A run of one short window per step, where windows take minutes; how many times as long the
    step itself takes, by its FLOPs: exact where no layer attends to the whole window."""
    model, segment = config.model, config.hardware.segment or 0
    widest = max(model.window_of(layer) or 0 for layer in range(model.n_layers))
    T, short = model.context_length, max(_LONG, 2 * segment, 2 * widest)
    if short >= T:
        return config, 1.0
    ratio = flops_per_token(model) * T / (flops_per_token(model, short) * short)
    n = n_processes()
    shortened = replace_settings(
        config, context_length=short, stride=None, batch_size=n, grad_accumulation_steps=1
    )
    return shortened, ratio * config.batch_size / n
