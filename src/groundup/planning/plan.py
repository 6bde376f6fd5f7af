"""What a run will cost, before it starts: parameters, arithmetic, memory, time, loss.

Parameters and memory are counted first, without building anything; a model that does not fit is
refused then. The time is measured: the run's own first steps are made for a few seconds on this
machine, and thrown away.
"""

import math
import time
from collections.abc import Set
from dataclasses import dataclass, replace

from groundup.base.calling import takes_settings
from groundup.base.device import choose_device
from groundup.base.duration import parse_duration_s
from groundup.base.fields import replace_settings
from groundup.base.machine import free_disk_bytes, usable_memory_bytes
from groundup.model.count import flops_per_token, parameters_by_part
from groundup.planning.budget import choose, duration_s, most_steps
from groundup.planning.compilation import with_compilation
from groundup.planning.config import PlanConfig
from groundup.planning.fitting import check_memory, with_segments
from groundup.planning.memory import (
    check_disk,
    count_disk,
    count_memory,
    settings_sha256,
)
from groundup.planning.scaling import expected_range
from groundup.planning.text_use import TextUse
from groundup.planning.throughput import probe
from groundup.train.build import validation_sets
from groundup.train.data import open_texts, with_vocabulary
from groundup.train.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run will cost."""

    steps: int
    n_parameters: int
    parameters: dict[str, int]
    """Parameters of each part of the model."""
    flops_per_step: int
    memory_bytes: dict[str, int]
    """Peak memory of each part."""
    total_memory_bytes: int
    free_memory_bytes: int
    """Free memory, including what this process already holds."""
    disk_bytes: int
    """Size of the run folder at its largest."""
    free_disk_bytes: int
    n_train_tokens: int
    n_targets: int
    """Number of targets to train on, which padding and first tokens of documents are not."""
    n_passes: float
    """Number of passes over the windows of the training text; of a mixture, over those of the text
    that is read most often."""
    passes: dict[str, float]
    """The same for each data folder."""
    first_loss_nats: float
    """ln V, the uniform baseline: before training every token is equally likely."""
    last_loss_nats: tuple[float, float]
    """Lowest and highest validation loss to expect at the end."""
    step_s: float
    """Seconds per step, measured."""
    validation_s: float
    """Seconds per validation, measured on a part of it."""
    compile_s: float
    """Seconds for compiling, if the step is compiled. A second start needs about half of it."""
    compilation: str
    """Whether the step is compiled, and why."""
    total_s: float
    """Seconds for the run."""
    warnings: tuple[str, ...]
    settings_sha256: str
    """Checksum of the settings that change the cost; a run finds its plan by it."""

    @property
    def flops_per_s(self) -> float:
        """Model FLOP/s that were measured."""
        return self.flops_per_step / self.step_s


@takes_settings(PlanConfig, "data")
def plan(config: PlanConfig, given: Set[str] = frozenset()) -> Plan:
    """Estimate the cost of a run.

    Args:
        config: The settings of the run.
        given: Flat names of the settings that a budget must not choose, besides those that differ
            from their defaults.

    Raises:
        UserError: There is no data, the text is shorter than the context, or the model does not fit
            in memory (with the nearest settings that do).
    """
    began_at = time.monotonic()
    data = open_texts(config.texts)
    budget_s = None if config.budget is None else duration_s(config.budget)
    if budget_s is not None:
        chosen = choose(config, data, budget_s, given)
        assert isinstance(chosen, PlanConfig)  # it changes settings of this config
        # The choice is made again below, for its reason.
        config = replace_settings(chosen, compile=config.hardware.compile)
    choosing_s = time.monotonic() - began_at
    config = with_segments(replace(config, model=with_vocabulary(config, data).model))
    config, compilation = with_compilation(config, budget_s or _given_s(config))
    texts = TextUse(config, data)
    parameters = parameters_by_part(config.model)
    check_memory(config)
    memory = count_memory(config)
    speed = probe(config, data, config.probe_s)
    n_windows = sum(map(len, validation_sets(config, data)))
    every = config.validation.validate_every
    step_s = speed.step_s
    validation_s = speed.window_s * min(n_windows, config.validation.validation_windows)
    tokens_per_step = config.batch_size * config.model.context_length
    steps = config.steps
    warnings = [texts.cut] if texts.cut else []
    if budget_s is not None:
        left_s = budget_s - choosing_s - speed.compile_s
        steps = _steps_within(left_s, step_s, validation_s, every)
        if steps > (most := most_steps(config, data.n_tokens_per_pass)):
            steps, budget_s = most, None
            text = f"{texts.most_read}, which is read most often," if data.others else "the text"
            warnings.append(
                f"{config.budget} is more than {text} supports. The run ends after {most:,} steps."
            )
    elif config.train_time is not None:
        seconds = parse_duration_s(config.train_time, "train_time") - speed.compile_s
        steps = _steps_within(seconds, step_s, validation_s, every)
        most = max(1, int(config.max_passes * texts.n_windows / config.batch_size))
        if steps > most:
            warnings.append(
                f"{config.train_time} is enough time for {steps:,} steps. The plan stops at "
                f"{most:,} steps, after {config.max_passes:g} passes over the text."
            )
            steps = most
    config = replace(config, steps=steps)
    check_disk(config, whole_run=True)
    Schedule.of(config.schedule, steps)  # refuses a warmup that is too long
    n_passes = steps * config.batch_size / texts.n_windows
    n_targets = texts.n_targets(steps * config.batch_size)
    if n_passes > config.max_passes and config.budget is None:
        warnings.append(
            f"The run makes {n_passes:.0f} passes over the text: expect overfitting. More text "
            "helps more than more steps."
        )
    if texts.n_windows < config.batch_size:
        warnings.append(
            f"The text has {texts.n_windows:.0f} windows and a batch has {config.batch_size}: "
            "a batch will contain the same window twice."
        )
    return Plan(
        steps=steps,
        n_parameters=sum(parameters.values()),
        parameters=parameters,
        flops_per_step=flops_per_token(config.model) * tokens_per_step,
        memory_bytes=memory,
        total_memory_bytes=sum(memory.values()),
        free_memory_bytes=usable_memory_bytes(choose_device(config.hardware.device)),
        disk_bytes=count_disk(config),
        free_disk_bytes=free_disk_bytes(config.out),
        n_train_tokens=data.n_train_tokens,
        n_targets=n_targets,
        n_passes=n_passes,
        passes={str(k): n for k, n in texts.passes(steps * config.batch_size).items()},
        first_loss_nats=math.log(config.model.vocab_size),
        last_loss_nats=expected_range(
            data, parameters["attention"] + parameters["mlp"], n_targets, steps
        ),
        step_s=step_s,
        validation_s=validation_s,
        compile_s=speed.compile_s,
        compilation=f"{'on' if compilation.on else 'off'}. {compilation.reason}",
        total_s=budget_s
        or speed.compile_s + steps * step_s + _n_validations(steps, every) * validation_s,
        warnings=tuple(warnings),
        settings_sha256=settings_sha256(config),
    )


def _given_s(config: PlanConfig) -> float | None:
    """The time of the steps, where it is set instead of their number."""
    return None if config.train_time is None else parse_duration_s(config.train_time, "train_time")


def _n_validations(steps: int, every: int | None) -> int:
    """Number of full validations: one per interval and one after the last step."""
    return 1 if every is None else steps // every + (steps % every > 0)


def _steps_within(seconds: float, step_s: float, validation_s: float, every: int | None) -> int:
    per_step_s = validation_s / every if every is not None else 0.0
    return max(1, int((seconds - validation_s) / (step_s + per_step_s)))
