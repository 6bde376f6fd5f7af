"""The one dial is time: what to train in ten minutes, on this machine, on this text.

A larger model learns more from each token and sees fewer of them. `expected_loss` is the fitted
rule of that trade; how fast each shape runs here is measured, not looked up. So the choice is a
walk along a ladder of shapes: try one, predict its loss, go on while the next one promises more.
"""

import logging
import math
import re
import time
from collections.abc import Set
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from groundup.base.config import given
from groundup.base.device import choose_device
from groundup.base.errors import UserError
from groundup.base.machine import free_memory_bytes
from groundup.model.config import GPTConfig
from groundup.model.count import parameters_by_part
from groundup.planning.memory import check_memory, count_memory
from groundup.planning.scaling import expected_loss
from groundup.planning.throughput import probe
from groundup.train.config import PretrainConfig
from groundup.train.data import Data, with_vocabulary
from groundup.train.distributed import World, n_processes

_log = logging.getLogger(__name__)
_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0}
_LEAST_S, _LEAST_COMPILED_S = 20.0, 600.0
SHAPES = (  # (n_layers, d_model)
    (2, 64),
    (2, 96),
    (2, 128),
    (3, 128),
    (4, 128),
    (4, 160),
    (4, 192),
    (4, 256),
    (6, 256),
    (6, 384),
    (8, 512),
    (10, 640),
    (12, 768),
    (16, 1024),
    (20, 1280),
    (24, 1536),
    (24, 2048),
)
"""The ladder: from what learns in seconds on a laptop to what fills a large GPU for days."""
_FIRST_RUNGS, _LONG_S = (1, 3), 120.0
"""Where the walk begins in a short time and in a long one."""
_CHOOSING_FRAC = 0.15
"""After this share of the time no other shape is tried."""
_CHOSEN = (
    "batch_size",
    "n_micro_batches",
    "vector_learning_rate",
    "weight_decay",
    "steps",
    "validate_every",
    "validation_windows",
    "checkpoint_every",
    "sample_every",
)
"""Beside the model."""
_SHAPE = {f"model.{name}" for name in ("n_layers", "d_model", "n_heads", "d_head", "n_kv_heads")}
"""One of these set by hand, and the shape is."""
_BATCH_TOKENS, _BATCH_TARGETS = 2048.0, 2e6
"""The best batch for so many targets; it grows with their square root."""
_LARGEST_BATCH_TOKENS = 2**19
_MEMORY_FRAC = 0.8
_PARAMETERS_PER_TOKEN = 2
_FEWEST_STEPS = 10
_N_LOOKS = 8
_LOOK_FRAC = 0.005
"""A run looks at the held-out text so often, and each time for this share of the budget."""


def duration_s(text: str) -> float:
    """Read a time span, in seconds.

    >>> duration_s("90s"), duration_s("10m"), duration_s("1h30m")
    (90.0, 600.0, 5400.0)

    Raises:
        UserError: It is none, or too short to start in.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise UserError(f"{text!r} is no time span", need="90s, 10m, 2h", type_this="--budget 10m")
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if seconds < _LEAST_S:
        raise UserError(
            f"{text} is too short: starting alone takes some seconds",
            need=f"{_LEAST_S:g}s or more",
            type_this="--budget 1m",
        )
    return seconds


@dataclass(frozen=True, kw_only=True)
class _Rung:
    """A shape, tried here."""

    config: PretrainConfig
    n_targets: int
    expected_loss: float


def choose(config: PretrainConfig, data: Data, seconds: float) -> PretrainConfig:
    """Choose what the wishes leave open; what was set by hand stays (`groundup.base.config.given`).

    No model gets more than twice as many parameters as the text has tokens: it would learn it by
    heart.

    Args:
        config: The wishes.
        data: The text.
        seconds: How long the run may take.

    Raises:
        UserError: The model set by hand is too slow for it, or nothing fits in memory.
    """
    probe_s = min(2.0, max(0.4, 0.01 * seconds))
    began_at, world = time.monotonic(), World.join(choose_device(config.device))
    by_hand = given(config)
    if "steps" in by_hand:
        _log.warning("%g s decide on the end, not %d steps", seconds, config.steps)
        by_hand.remove("steps")
    if config.compile and seconds < _LEAST_COMPILED_S:
        _log.warning("of %g s half a minute or more goes into compiling", seconds)
    attempt = partial(_try, config, data, by_hand, seconds=seconds, probe_s=probe_s)
    if by_hand & _SHAPE:
        return _that_fits(attempt(None))
    most = _PARAMETERS_PER_TOKEN * data.train.n_tokens
    rungs = [shape for shape in SHAPES if _n_parameters(shape) <= most] or [SHAPES[0]]
    place = min(_FIRST_RUNGS[seconds >= _LONG_S], len(rungs) - 1)
    best, latest_at = attempt(rungs[place]), world.of_first(began_at) + _CHOOSING_FRAC * seconds
    for way in (1, -1):
        moved = False
        # On a machine busy with other things a few attempts must do.
        while 0 <= place + way < len(rungs) and world.of_first(time.monotonic()) < latest_at:
            rung = attempt(rungs[place + way])
            if rung.expected_loss >= best.expected_loss:
                break
            best, place, moved = rung, place + way, True
        if moved:
            break
    _log.info("chosen for %g s: %s", seconds, best.config)
    return _that_fits(best)


def _that_fits(rung: _Rung) -> PretrainConfig:
    check_memory(rung.config)
    return rung.config


def _try(
    config: PretrainConfig,
    data: Data,
    by_hand: Set[str],
    shape: tuple[int, int] | None,
    *,
    seconds: float,
    probe_s: float,
) -> _Rung:
    """Measure a shape (None: the config's own) and fill in all that follows from its speed."""
    config = with_vocabulary(config, data)
    n_train = data.train.n_tokens
    n_targets = n_train  # a first guess, for the batch of the probe
    for _ in range(2):
        wished = _fill(config, _settings(config.model, by_hand, shape, n_targets, n_train), by_hand)
        fitting = _cut_to_fit(wished, by_hand)
        if fitting is None:
            return _Rung(config=wished, n_targets=0, expected_loss=math.inf)
        wished = fitting
        # Not compiled, for that would take longer than all the rest; the ratios are much the same.
        speed = probe(replace(wished, compile=False), data, probe_s / 2)
        if shape is None and speed.step_s * _FEWEST_STEPS > seconds:
            raise UserError(
                f"a step of this model takes {speed.step_s:.1f} s here, and {seconds:g} s are all",
                need=f"time for {_FEWEST_STEPS} steps at least, or a smaller model",
                type_this=f"--budget {math.ceil(_FEWEST_STEPS * speed.step_s / 60)}m",
            )
        tokens = wished.batch_size * wished.model.context_length
        n_targets = max(tokens, int(seconds / speed.step_s) * tokens)
    chosen = _fill(config, _settings(config.model, by_hand, shape, n_targets, n_train), by_hand)
    chosen = _cut_to_fit(chosen, by_hand) or chosen
    chosen = _fill(chosen, _looks(chosen, n_targets, speed.window_s, seconds), by_hand)
    parts = parameters_by_part(chosen.model)
    expected = expected_loss(parts["attention"] + parts["mlp"], n_targets, n_train)
    _log.info("tried %s: %d targets, expected loss %.4f", shape, n_targets, expected)
    return _Rung(config=chosen, n_targets=n_targets, expected_loss=expected)


def _n_parameters(shape: tuple[int, int]) -> int:
    """Parameters of the blocks: 4 C^2 of attention and 8 C^2 of the MLP in each layer."""
    n_layers, d_model = shape
    return 12 * n_layers * d_model**2


def _cut_to_fit(config: PretrainConfig, by_hand: Set[str]) -> PretrainConfig | None:
    """Cut the batch into as many parts as memory asks for; None: it does not help, or may not."""
    free = _MEMORY_FRAC * free_memory_bytes(choose_device(config.device))
    while sum(count_memory(config).values()) > free:
        if config.n_micro_batches >= config.batch_size or "n_micro_batches" in by_hand:
            return None
        config = replace(config, n_micro_batches=min(2 * config.n_micro_batches, config.batch_size))
    return config


def agree(stored: PretrainConfig, wished: PretrainConfig) -> bool:
    """Whether a run may be what was chosen for these wishes: what was set by hand is the same."""
    model = {field.name: getattr(stored.model, field.name) for field in fields(GPTConfig)}
    choice = {name: getattr(stored, name) for name in _CHOSEN} | {"model": model}
    return _fill(wished, choice, given(wished) - {"steps"}) == replace(stored, out=wished.out)


def _settings(
    wished: GPTConfig,
    by_hand: Set[str],
    shape: tuple[int, int] | None,
    n_targets: int,
    n_train: int,
) -> dict[str, Any]:
    """What is right for a run that will see so many targets; docs/experiments.md has the runs."""
    n = n_processes()
    context_length = 128 if n_targets < 2.5e6 else 256 if n_targets < 2e8 else 1024
    context_length = min(context_length, max(1, n_train // 4))
    batch_tokens = min(_BATCH_TOKENS * (n_targets / _BATCH_TARGETS) ** 0.5, _LARGEST_BATCH_TOKENS)
    has_biases = wished.qkv_bias or "model.qkv_bias" not in by_hand
    looks_back = wished.positions == "rotary" and wished.qk_norm and has_biases
    model: dict[str, Any] = {}
    if shape is not None:  # else it was set by hand, all of it
        n_layers, d_model = shape
        n_heads = d_model // (32 if d_model < 256 else 64)
        model = {"n_layers": n_layers, "d_model": d_model, "n_heads": n_heads}
    return {
        "model": {
            **model,
            "context_length": context_length,
            "norm": "layer",
            "activation": "relu2",
            "tied_head": False,
            "qk_gain": 2.0,
            "rotary_base": 4.0 * context_length,
            # Unless positions or norms set by hand leave no way to.
            "qkv_bias": looks_back,
            "look_back": looks_back,
        },
        "batch_size": max(1, round(batch_tokens / context_length / n)) * n,
        "vector_learning_rate": 0.003,
        # A text read many times wants more decay, or it is learnt by heart.
        "weight_decay": 0.1 if n_targets < 2 * n_train else 0.3,
    }


def _looks(
    config: PretrainConfig, n_targets: int, window_s: float, seconds: float
) -> dict[str, Any]:
    """How often to look at the held-out text and to save, so that both stay cheap."""
    steps = max(1, n_targets // (config.batch_size * config.model.context_length))
    every = max(1, steps // _N_LOOKS)
    return {
        "steps": steps,
        "validate_every": every,
        "validation_windows": max(config.batch_size, int(_LOOK_FRAC * seconds / window_s)),
        "checkpoint_every": every,
        "sample_every": max(1, steps // 3),
    }


def _fill(config: PretrainConfig, choice: dict[str, Any], by_hand: Set[str]) -> PretrainConfig:
    """Put the choice in place, but for what was set by hand."""
    outer = {name: value for name, value in choice.items() if name not in {"model", *by_hand}}
    inner = {
        name: value
        for name, value in choice.get("model", {}).items()
        if f"model.{name}" not in by_hand
    }
    return replace(config, model=replace(config.model, **inner), **outer)
