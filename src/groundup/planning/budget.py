"""One setting for everything: how long the run may take, on this machine and this text.

A larger model learns more from each token and sees fewer tokens. `expected_loss` is a formula of
that trade-off, fitted to runs; the speed of each size is measured on this machine. The search
starts at a size, predicts its loss, and goes on to the next size while the prediction improves.
"""

import logging
import math
import time
from collections.abc import Set
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from groundup.base.device import choose_device
from groundup.base.duration import parse_duration_s
from groundup.base.errors import UserError
from groundup.base.fields import changed_settings, leaves, marked, replace_settings, setting
from groundup.base.kinds import Mark
from groundup.base.machine import usable_memory_bytes
from groundup.model.count import parameters_by_part
from groundup.planning.compilation import with_compilation
from groundup.planning.fitting import check_memory, total_bytes, with_segments
from groundup.planning.scaling import expected_loss
from groundup.planning.throughput import Speed, probe
from groundup.train.config import PretrainConfig
from groundup.train.data import Data, with_vocabulary
from groundup.train.distributed import World, n_processes

_log = logging.getLogger(__name__)
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
"""Model sizes, from seconds of training on a laptop to days on a large GPU."""
_FIRST_SHAPES, _LONG_S = (1, 3), 120.0
"""Where the search starts with little time and with much time."""
_SEARCH_FRAC = 0.15
"""After this fraction of the time no other size is tried."""
_BATCH_TOKENS, _BATCH_TARGETS = 2048.0, 2e6
"""The best batch size for this number of targets; it grows with their square root."""
_LARGEST_BATCH_TOKENS = 2**19
_FREE, _MOST_FREE_TOKENS = 1.25, 2**15
"""On a GPU the batch is doubled while a step takes at most this many times as long, up to this many
tokens: small steps mostly wait until their kernels are launched."""
_MEMORY_FRAC = 0.8
"""A size is tried if it takes at most this fraction of the memory that can be used."""
_PARAMETERS_PER_TOKEN = 2
_MOST_PASSES = 40.0
"""Number of passes over the text, or over the text of a mixture that is read most often, after
which a run ends although there is time left."""
_DROPOUTS = ((5.0, 0.0), (10.0, 0.1), (25.0, 0.2), (math.inf, 0.3))
"""The dropout for up to this value of parameters per token times the root of the passes."""
_EMBEDDING_RATE, _MOST_EMBEDDING_RATE, _FEW_TOKENS = 0.03, 0.24, 128
"""The learning rate of the embeddings with a vocabulary of up to this many tokens. It grows with
the root of a larger one, because each row is seen less often; that of the head stays."""
_FEWEST_STEPS = 10
_N_VALIDATIONS = 8
_VALIDATION_FRAC = 0.005
"""Number of validations in a run, and the fraction of the budget that each may take."""


def duration_s(text: str) -> float:
    """Read a budget, in seconds.

    >>> duration_s("90s"), duration_s("10m"), duration_s("1h30m")
    (90.0, 600.0, 5400.0)

    Raises:
        UserError: It is not a time span, or too short for a run.
    """
    seconds = parse_duration_s(text, "budget")
    if seconds < _LEAST_S:
        raise UserError(
            f"A budget of {text} is too short, because starting alone takes some seconds. "
            f"At least {_LEAST_S:g}s are expected.",
            settings={"budget": "1m"},
        )
    return seconds


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """A size that was measured on this machine."""

    config: PretrainConfig
    n_targets: int
    expected_loss: float


def choose(
    config: PretrainConfig, data: Data, seconds: float, given: Set[str] = frozenset()
) -> PretrainConfig:
    """Choose the settings that were not given explicitly.

    No model gets more than twice as many parameters as the text has tokens, and a text that is read
    several times gets dropout: the model would overfit. Of a mixture, the text that is read most
    often decides.

    Args:
        config: The requested settings. Those that differ from their defaults stay as they are.
        data: The text.
        seconds: How long the run may take.
        given: Flat names of settings that also stay as they are, although they may be the defaults.

    Raises:
        UserError: The given model is too slow for this time, or nothing fits in memory.
    """
    probe_s = min(2.0, max(0.4, 0.01 * seconds))
    device = choose_device(config.hardware.device)
    began_at, world = time.monotonic(), World.join(device)
    given = given | changed_settings(config)
    if "steps" in given:
        _log.warning(
            "The budget of %g s sets the number of steps, not steps=%d.", seconds, config.steps
        )
        given = given - {"steps"}
    if config.hardware.compile == "on" and seconds < _LEAST_COMPILED_S:
        _log.warning("Compiling takes half a minute or more of the %g s.", seconds)
    attempt = partial(_try, config, data, given, seconds=seconds, probe_s=probe_s)
    grow = partial(_with_larger_batch, data=data, given=given, seconds=seconds, probe_s=probe_s)

    def finished(chosen: _Candidate) -> PretrainConfig:
        speed = probe(replace_settings(chosen.config, compile="off"), data, probe_s / 2)
        intervals = _intervals(chosen.config, chosen.n_targets, speed.window_s, seconds)
        return _checked(grow(_fill(chosen.config, intervals, given)), seconds)

    if given & marked(type(config), Mark.SHAPE):
        return finished(attempt(None))
    most = _PARAMETERS_PER_TOKEN * data.n_tokens_per_pass
    shapes = [shape for shape in SHAPES if block_parameters(shape) <= most] or [SHAPES[0]]
    place = min(_FIRST_SHAPES[seconds >= _LONG_S], len(shapes) - 1)
    best, latest_at = attempt(shapes[place]), world.of_first(began_at) + _SEARCH_FRAC * seconds
    while best.expected_loss == math.inf:  # it does not fit in memory
        place -= 1
        best = attempt(shapes[place])
    for direction in (1, -1):
        moved = False
        # On a machine that is busy with other programs, few sizes can be tried.
        while 0 <= place + direction < len(shapes) and world.of_first(time.monotonic()) < latest_at:
            candidate = attempt(shapes[place + direction], best)
            if candidate.expected_loss >= best.expected_loss:
                break
            best, place, moved = candidate, place + direction, True
        if moved:
            break
    _log.info("Settings chosen for %g s: %s", seconds, best.config)
    return finished(best)


def _checked(config: PretrainConfig, seconds: float) -> PretrainConfig:
    config, _ = with_compilation(with_segments(config), seconds)
    check_memory(config)
    return config


def _with_larger_batch(
    config: PretrainConfig, data: Data, given: Set[str], seconds: float, probe_s: float
) -> PretrainConfig:
    """Double the batch while that costs hardly any time, on a GPU."""
    if not _is_gpu(config) or "batch_size" in given:
        return config
    check_memory(config)

    def speed_of(config: PretrainConfig) -> Speed:
        return probe(replace_settings(config, compile="off"), data, probe_s / 2)

    n_train = data.n_tokens_per_pass
    speed, tokens, parts = speed_of(config), _batch_tokens(config), _n_parts(config)
    while 2 * _batch_tokens(config) <= _MOST_FREE_TOKENS:
        larger = _split_to_fit(replace_settings(config, batch_size=2 * config.batch_size), given)
        if not _fits(larger) or _n_parts(larger) > parts:
            break
        slower = speed_of(larger)
        _log.info("A batch of %d windows: %.4f s per step.", larger.batch_size, slower.step_s)
        ends_early = most_steps(larger, n_train) * slower.step_s < seconds
        if ends_early or slower.step_s > _FREE * speed.step_s:
            break  # fewer steps for the same passes over the text, or for the same time
        config, speed = larger, slower
    if _batch_tokens(config) == tokens:
        return config
    n_steps = min(int(seconds / speed.step_s), most_steps(config, n_train))
    n_targets = n_steps * _batch_tokens(config)
    # A faster run makes more passes over the text, which decide on dropout and weight decay.
    choice = _settings(config, given, None, n_targets, n_train)
    measured = ("batch_size", "context_length", "rotary_base")
    config = _fill(config, {n: v for n, v in choice.items() if n not in measured}, given)
    return _fill(config, _intervals(config, n_targets, speed.window_s, seconds), given)


def _is_gpu(config: PretrainConfig) -> bool:
    return choose_device(config.hardware.device).type == "cuda"


def _batch_tokens(config: PretrainConfig) -> int:
    return config.batch_size * config.model.context_length


def _n_parts(config: PretrainConfig) -> int:
    return config.hardware.grad_accumulation_steps


def _try(
    config: PretrainConfig,
    data: Data,
    given: Set[str],
    shape: tuple[int, int] | None,
    neighbor: _Candidate | None = None,
    *,
    seconds: float,
    probe_s: float,
) -> _Candidate:
    """Measure a shape (None: the given one) and choose all that follows from its speed.

    The batch of the measurement depends on the number of targets, for which there is a better first
    guess beside a `neighbor` of another size. A shape that does not fit in memory is not measured,
    and its expected loss is infinite, unless there is no smaller one.
    """
    config = with_vocabulary(config, data)
    n_train = data.n_tokens_per_pass
    n_targets = min(n_train, int(_BATCH_TARGETS)) if neighbor is None else neighbor.n_targets
    settings = partial(_settings, config, given, shape, n_train=n_train)
    for _ in range(2 if neighbor is None else 1):
        config = _fill(config, settings(n_targets=n_targets), given)
        if "context_length" in given:
            config = with_segments(config)
        fitting = _split_to_fit(config, given)
        if not _fits(fitting):
            if shape not in (None, SHAPES[0]):
                return _Candidate(config=config, n_targets=0, expected_loss=math.inf)
            check_memory(fitting)
        # Not compiled: that would take longer than the search. The ratios are much the same.
        uncompiled = replace_settings(fitting, compile="off")
        speed = probe(uncompiled, data, probe_s / 2, validates=False)
        tokens = _batch_tokens(fitting)
        n_targets = max(tokens, int(seconds / speed.step_s) * tokens)
        n_targets = min(n_targets, max(tokens, int(_MOST_PASSES * n_train)))
    # Only now: the first batch may be larger than what suits a run of this length.
    if shape is None and speed.step_s * _FEWEST_STEPS > seconds:
        minutes = math.ceil(_FEWEST_STEPS * speed.step_s / 60)
        raise UserError(
            f"A step of this model takes {speed.step_s:.1f} s on this machine, and the budget "
            f"is {seconds:g} s. It must allow at least {_FEWEST_STEPS} steps.",
            settings={"budget": f"{minutes}m"},
        )
    chosen = _fill(config, settings(n_targets=n_targets), given)
    chosen = _split_to_fit(chosen, given)
    parts = parameters_by_part(chosen.model)
    n_parameters, V = parts["attention"] + parts["mlp"], chosen.model.vocab_size
    expected = expected_loss(n_parameters, n_targets, n_train, V)
    _log.info("Tried %s: %d targets, expected loss %.4f.", shape, n_targets, expected)
    return _Candidate(config=chosen, n_targets=n_targets, expected_loss=expected)


def most_steps(config: PretrainConfig, n_train: int) -> int:
    """Number of steps at which a run under a budget ends although there is time left.

    Args:
        config: The settings.
        n_train: Tokens of a pass over the training text (`Data.n_tokens_per_pass`).
    """
    return max(_FEWEST_STEPS, math.ceil(_MOST_PASSES * n_train / _batch_tokens(config)))


def block_parameters(shape: tuple[int, int]) -> int:
    """Parameters of the blocks: 4 C^2 of attention and 8 C^2 of the MLP in each layer."""
    n_layers, d_model = shape
    return 12 * n_layers * d_model**2


def shape_settings(shape: tuple[int, int]) -> dict[str, int]:
    """The settings of a model of this shape (n_layers, d_model): heads of 32 or 64 dimensions."""
    n_layers, d_model = shape
    n_heads = d_model // (32 if d_model < 256 else 64)
    return {"n_layers": n_layers, "d_model": d_model, "n_heads": n_heads}


def _split_to_fit(config: PretrainConfig, given: Set[str]) -> PretrainConfig:
    """Split the batch until it fits in memory, or as far as it may be split."""
    parts = _n_parts(config)
    while parts < config.batch_size and "grad_accumulation_steps" not in given:
        if _fits(config):
            break
        parts = min(2 * parts, config.batch_size)
        config = replace_settings(config, grad_accumulation_steps=parts)
    return config


def _fits(config: PretrainConfig) -> bool:
    """Whether a run fits in memory, with some of it to spare."""
    device = choose_device(config.hardware.device)
    left = _MEMORY_FRAC * usable_memory_bytes(device) - total_bytes(config)
    # The same in all processes, whose memory may differ.
    return World.join(device).of_first(left) >= 0


def agree(stored: PretrainConfig, config: PretrainConfig, given: Set[str] = frozenset()) -> bool:
    """Whether a run may be what was chosen for these settings: all given settings are the same."""
    given = (given | changed_settings(config)) - {"steps"}
    if config.hardware.compile == "auto":  # also where it is typed
        given = given - {"compile"}
    chosen = marked(type(config), Mark.BY_BUDGET)
    known = leaves(type(config))
    choice = {name: setting(stored, known[name]) for name in chosen}
    try:
        return _fill(config, choice, given) == replace(stored, out=config.out)
    except UserError:  # what was chosen for other settings does not go with these
        return False


def _settings(
    config: PretrainConfig,
    given: Set[str],
    shape: tuple[int, int] | None,
    n_targets: int,
    n_train: int,
) -> dict[str, Any]:
    """What suits a run with this number of targets, if a pass over the text has `n_train` tokens;
    docs/experiments.md has the measurements."""
    model, n = config.model, n_processes()
    context_length = 128 if n_targets < 2.5e6 else 256 if n_targets < 2e8 else 1024
    context_length = min(context_length, max(1, n_train // 4))
    context_length = max(context_length, model.window or 1, config.hardware.segment or 1)
    if "context_length" in given:
        context_length = model.context_length
    batch_tokens = min(_BATCH_TOKENS * (n_targets / _BATCH_TARGETS) ** 0.5, _LARGEST_BATCH_TOKENS)
    has_biases = model.qkv_bias or "qkv_bias" not in given
    looks_back = model.rotates(0) and model.qk_norm and has_biases
    size = shape or (model.n_layers, model.d_model)
    n_parameters = block_parameters(size) + 2 * model.vocab_size * size[1]
    overfitting = n_parameters / n_train * (n_targets / n_train) ** 0.5
    is_tied = model.tie_embeddings and "tie_embeddings" in given
    n_rare = 1 if is_tied or model.ngram > 1 else model.vocab_size / _FEW_TOKENS
    embedding_rate = min(_EMBEDDING_RATE * max(1.0, n_rare) ** 0.5, _MOST_EMBEDDING_RATE)
    return {
        **({} if shape is None else shape_settings(shape)),  # else all of it is given
        "context_length": context_length,
        "norm": "layer",
        "activation": "relu2",
        "tie_embeddings": False,
        "qk_gain": 2.0,
        "rotary_base": 4.0 * context_length,
        # Unless the given positions, norms or biases do not allow it.
        "qkv_bias": looks_back,
        "look_back": looks_back,
        "batch_size": max(1, round(batch_tokens / context_length / n)) * n,
        "embedding_learning_rate": embedding_rate,
        # Unless the rate of both was given.
        "head_learning_rate": None if "embedding_learning_rate" in given else _EMBEDDING_RATE,
        "norm_learning_rate": 0.003,
        # A text that is read many times needs more decay against overfitting.
        "weight_decay": 0.1 if n_targets < 2 * n_train else 0.3,
        "dropout": next(p for most, p in _DROPOUTS if overfitting <= most),
    }


def _intervals(
    config: PretrainConfig, n_targets: int, window_s: float, seconds: float
) -> dict[str, Any]:
    """How often to validate and to save, so that both take little time."""
    steps = max(1, n_targets // _batch_tokens(config))
    every = max(1, steps // _N_VALIDATIONS)
    return {
        "steps": steps,
        "validate_every": every,
        "validation_windows": max(config.batch_size, int(_VALIDATION_FRAC * seconds / window_s)),
        "checkpoint_every": every,
        "sample_every": max(1, steps // 3),
    }


def _fill(config: PretrainConfig, choice: dict[str, Any], given: Set[str]) -> PretrainConfig:
    """Set what was chosen, except what was given."""
    return replace_settings(config, **{n: v for n, v in choice.items() if n not in given})
