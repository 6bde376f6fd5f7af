"""What a run will cost, before anything is spent: parameters, arithmetic, memory, time, first loss.

Counting comes first and builds nothing; what does not fit in memory is said then. Time is not
guessed from a table of machines: the run's own first steps are made here for a few seconds, with
its own batches, and thrown away.
"""

import logging
import math
import statistics
import time
from dataclasses import asdict, dataclass, replace

from groundup.base.device import choose_device, free_memory_bytes
from groundup.base.errors import UserError
from groundup.data.windows import Windows
from groundup.model.config import GPTConfig
from groundup.model.count import Memory, flops_per_token, memory_bytes, parameters_by_part
from groundup.train.loop import train_steps
from groundup.train.pretrain import PretrainConfig
from groundup.train.schedule import Schedule
from groundup.train.setup import Data, open_data, prepare_training, with_vocabulary

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
    n_train_tokens: int
    n_passes: float
    """how often each token of the text is learnt from"""
    first_loss_nats: float
    """ln V: before training every token is as likely as any other"""
    step_s: float
    """seconds per step, measured"""
    validation_s: float
    """seconds for one look at the held-out text, measured on a part of it"""
    total_s: float
    """seconds for the whole run"""
    warnings: tuple[str, ...]

    @property
    def flops_per_s(self) -> float:
        """Model arithmetic per second that the probe reached."""
        return self.flops_per_step / self.step_s


def plan(config: PlanConfig) -> Plan:
    """Judge a run.

    Raises:
        UserError: No data, a text shorter than the context, a span of no length, or a model that
            does not fit in memory (with the nearest setting that does).
    """
    if config.minutes is not None and config.minutes <= 0:
        raise UserError(f"{config.minutes} minutes", need="more than 0", type_this="--minutes 2")
    data = open_data(config.data)
    config = replace(config, model=with_vocabulary(config, data).model)
    windows = Windows(data.train, config.model.context_length, config.stride)
    parameters = parameters_by_part(config.model)
    memory = count_memory(config)
    free = free_memory_bytes(choose_device(config.device))
    if memory.total_bytes > free:
        raise _does_not_fit(config, memory, free)
    step_s, validation_s = _probe(config, data)
    tokens_per_step = config.batch_size * config.model.context_length
    steps = config.steps
    warnings = []
    if config.minutes is not None:
        steps = _steps_within(60 * config.minutes, step_s, validation_s, config.validate_every)
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
        memory_bytes={name.removesuffix("_bytes"): n for name, n in asdict(memory).items()},
        total_memory_bytes=memory.total_bytes,
        free_memory_bytes=free,
        n_train_tokens=data.train.n_tokens,
        n_passes=n_passes,
        first_loss_nats=math.log(config.model.vocab_size),
        step_s=step_s,
        validation_s=validation_s,
        total_s=steps * step_s + _n_validations(steps, config.validate_every) * validation_s,
        warnings=tuple(warnings),
    )


def count_memory(config: PretrainConfig) -> Memory:
    """Bytes of one training step, with the optimiser and micro-batches as set."""
    rows = -(-config.batch_size // config.n_micro_batches)
    return memory_bytes(
        config.model,
        rows,
        optimizer_values_per_weight=_values_per_weight(config),
        recompute=config.recompute,
    )


def _values_per_weight(config: PretrainConfig) -> float:
    """AdamW keeps two averages for each weight, Muon one momentum for each number of a matrix."""
    if config.optimizer == "adamw":
        return 2.0
    parts = parameters_by_part(config.model)
    n_matrices = parts["attention"] + parts["mlp"]
    return 2.0 - n_matrices / sum(parts.values())


def _probe(config: PlanConfig, data: Data) -> tuple[float, float]:
    """Median seconds of a real step, and seconds of one validation."""
    setup = prepare_training(config, data)
    began_at = time.perf_counter()
    spans: list[float] = []
    schedule = Schedule(n_steps=1_000_000, warmup_steps=10)
    steps = train_steps(
        setup.loader,
        setup.loss,
        setup.optimizer,
        schedule,
        n_micro_batches=config.n_micro_batches,
        max_grad_norm=config.max_grad_norm,
    )
    before = began_at
    for step in steps:
        now = time.perf_counter()
        if step.step > 1:  # the first one also wakes up threads and buffers
            spans.append(now - before)
        before = now
        # Two steps at least, however slow; then as many as the time allows.
        if spans and now - began_at > config.probe_s:
            break
    part = replace(config, validation_windows=min(config.batch_size, config.validation_windows))
    n_part = part.validation_windows
    n_windows = len(Windows(data.validation, config.model.context_length, coverage="exact"))
    n_all = min(n_windows, config.validation_windows)
    began_at = time.perf_counter()
    replace(setup, config=part).validate()
    validation_s = (time.perf_counter() - began_at) * max(1.0, n_all / n_part)
    return statistics.median(spans), validation_s


def _n_validations(steps: int, every: int) -> int:
    """One before the first step, one at each due step, one at the last."""
    return 1 + steps // every + (steps % every > 0) if every > 0 else 2


def _steps_within(seconds: float, step_s: float, validation_s: float, every: int) -> int:
    share = validation_s / every if every > 0 else 0.0
    return max(1, int((seconds - 2 * validation_s) / (step_s + share)))


def _does_not_fit(config: PlanConfig, memory: Memory, free: int) -> UserError:
    """Name what does fit: smaller micro-batches first, for they change nothing else."""
    parts = config.n_micro_batches
    while parts < config.batch_size:
        parts = min(2 * parts, config.batch_size)
        smaller = count_memory(replace(config, n_micro_batches=parts)).total_bytes
        if smaller <= free:
            way_out = f"--n-micro-batches {parts}"
            break
    else:
        way_out = _smaller_model(config.model)
    return UserError(
        f"one step takes about {memory.total_bytes / 1e9:,.1f} GB of memory and "
        f"{free / 1e9:,.1f} GB are free",
        need="a step that fits",
        where="the model and the batch",
        type_this=way_out,
    )


def _smaller_model(model: GPTConfig) -> str:
    return f"--n-layers {max(1, model.n_layers // 2)} --d-model {model.d_model // 2}"
