"""What a run will cost, before anything is spent: parameters, arithmetic, memory, time, first loss.

Counting comes first and builds nothing; what does not fit in memory is said then. Time is not
guessed from a table of machines: the run's own first steps are made here for a few seconds, with
its own batches, and thrown away.
"""

import logging
import math
import time
from dataclasses import dataclass, replace

from groundup.base.config import HUGE, TINY, Range, check_ranges
from groundup.base.device import choose_device
from groundup.base.errors import UserError
from groundup.base.machine import free_disk_bytes, usable_memory_bytes
from groundup.data.windows import Windows
from groundup.model.count import flops_per_token, parameters_by_part
from groundup.planning.budget import choose, duration_s
from groundup.planning.memory import check_memory, count_disk, count_memory, settings_sha256
from groundup.planning.scaling import expected_range
from groundup.planning.throughput import probe
from groundup.train.config import PretrainConfig
from groundup.train.data import open_data, with_vocabulary

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PlanConfig(PretrainConfig):
    """A run to be judged: pretrain's own settings, and how long it may take."""

    minutes: float | None = None
    """choose the steps so that training takes about this long here; None: as in steps"""
    max_passes: float = 40.0
    """with minutes: never more passes over the text than this; more is learnt by heart"""
    probe_s: float = 4.0
    """how long to try the real thing, in seconds"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, _RANGES)
        if self.minutes is not None and self.budget is not None:
            raise UserError(
                "--minutes and --budget both say how long",
                need="one of them",
                type_this=f"--budget {self.budget}",
            )


_RANGES: tuple[Range, ...] = (
    ("minutes", TINY, HUGE),
    ("max_passes", TINY, HUGE),
    ("probe_s", TINY, HUGE),
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run will cost."""

    steps: int
    n_parameters: int
    parameters: dict[str, int]
    """by part of the model"""
    flops_per_step: int
    memory_bytes: dict[str, int]
    """at the fullest moment, by part"""
    total_memory_bytes: int
    free_memory_bytes: int
    """with what this process holds already"""
    disk_bytes: int
    """of the run folder at its fullest"""
    free_disk_bytes: int
    n_train_tokens: int
    n_passes: float
    """how often each token of the text is learnt from"""
    first_loss_nats: float
    """ln V: before training every token is as likely as any other"""
    last_loss_nats: tuple[float, float]
    """on held-out text at the end, from and to: by size, length, and the text's pairs of tokens"""
    step_s: float
    """seconds per step, measured"""
    validation_s: float
    """seconds for one look at the held-out text, measured on a part of it"""
    compile_s: float
    """seconds that compiling takes, where it is wished; a second start needs about half of it"""
    total_s: float
    """seconds for the whole run"""
    warnings: tuple[str, ...]
    settings_sha256: str
    """of the settings that decide the cost: the run's README holds the plan against what it took"""

    @property
    def flops_per_s(self) -> float:
        """Model arithmetic per second that the probe reached."""
        return self.flops_per_step / self.step_s


def plan(config: PlanConfig) -> Plan:
    """Judge a run.

    Raises:
        UserError: No data, a text shorter than the context, or a model that does not fit in memory
            (with the nearest setting that does).
    """
    began_at = time.monotonic()
    data = open_data(config.data)
    budget_s = None if config.budget is None else duration_s(config.budget)
    if budget_s is not None:
        chosen = choose(config, data, budget_s)
        assert isinstance(chosen, PlanConfig)  # it fills in the config that it is given
        config = chosen
    choosing_s = time.monotonic() - began_at
    config = replace(config, model=with_vocabulary(config, data).model)
    windows = Windows(data.train, config.model.context_length, config.stride)
    parameters = parameters_by_part(config.model)
    check_memory(config)
    memory = count_memory(config)
    disk, free_disk = count_disk(config), free_disk_bytes(config.out)
    if disk > free_disk:
        raise UserError(
            f"checkpoints take {disk / 1e6:,.1f} MB of disk and {free_disk / 1e6:,.1f} MB are free",
            need="another disk, or fewer checkpoints",
            where=config.out,
            type_this="--keep-checkpoints 1 --out another/folder",
        )
    speed = probe(config, data, config.probe_s)
    n_held_out = len(Windows(data.validation, config.model.context_length, coverage="exact"))
    step_s = speed.step_s
    validation_s = speed.window_s * min(n_held_out, config.validation_windows)
    tokens_per_step = config.batch_size * config.model.context_length
    steps = config.steps
    warnings = []
    if budget_s is not None:
        left_s = budget_s - choosing_s - speed.compile_s
        steps = _steps_within(left_s, step_s, validation_s, config.validate_every)
    elif config.minutes is not None:
        seconds = 60 * config.minutes - speed.compile_s
        steps = _steps_within(seconds, step_s, validation_s, config.validate_every)
        most = max(1, int(config.max_passes * len(windows) / config.batch_size))
        if steps > most:
            warnings.append(
                f"{config.minutes:g} minutes would suffice for {steps:,} steps; after {most:,} "
                f"every token has been seen {config.max_passes:g} times, so there they end"
            )
            steps = most
    n_passes = steps * config.batch_size / len(windows)
    if n_passes > config.max_passes:
        warnings.append(
            f"every token is seen {n_passes:.0f} times: expect the model to learn the text by "
            "heart; more text helps more than more steps"
        )
    if len(windows) < config.batch_size:
        warnings.append(
            f"the text has {len(windows)} windows and a batch {config.batch_size}: "
            "a batch will hold the same window twice"
        )
    return Plan(
        steps=steps,
        n_parameters=sum(parameters.values()),
        parameters=parameters,
        flops_per_step=flops_per_token(config.model) * tokens_per_step,
        memory_bytes=memory,
        total_memory_bytes=sum(memory.values()),
        free_memory_bytes=usable_memory_bytes(choose_device(config.device)),
        disk_bytes=disk,
        free_disk_bytes=free_disk,
        n_train_tokens=data.train.n_tokens,
        n_passes=n_passes,
        first_loss_nats=math.log(config.model.vocab_size),
        last_loss_nats=expected_range(
            data, parameters["attention"] + parameters["mlp"], steps * tokens_per_step, steps
        ),
        step_s=step_s,
        validation_s=validation_s,
        compile_s=speed.compile_s,
        total_s=budget_s
        or speed.compile_s
        + steps * step_s
        + _n_validations(steps, config.validate_every) * validation_s,
        warnings=tuple(warnings),
        settings_sha256=settings_sha256(replace(config, steps=steps)),
    )


def _n_validations(steps: int, every: int) -> int:
    """One at each due step, one at the last; the one before the first step is short."""
    return steps // every + (steps % every > 0) if every > 0 else 1


def _steps_within(seconds: float, step_s: float, validation_s: float, every: int) -> int:
    share = validation_s / every if every > 0 else 0.0
    return max(1, int((seconds - validation_s) / (step_s + share)))
