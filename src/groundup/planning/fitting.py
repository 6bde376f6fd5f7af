"""Settings with which a run fits in memory: segments of time, smaller batches, smaller models."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from groundup.base.device import choose_device
from groundup.base.errors import UserError
from groundup.base.fields import replace_settings
from groundup.base.machine import usable_memory_bytes
from groundup.model.config import GPTConfig
from groundup.model.count import parameters_by_part
from groundup.planning.memory import count_memory
from groundup.train.config import PretrainConfig
from groundup.train.distributed import World

C = TypeVar("C", bound=PretrainConfig)

_log = logging.getLogger(__name__)
_SHORTEST, LONG = 256, 2**14
"""Fewest tokens of a segment; context length from which on a window is long."""
_HARDLY_MORE, _LARGE_FRAC = 1.05, 0.05
_SHAPE = ("n_layers", "d_model", "n_heads", "n_kv_heads", "d_ff", "layers", "window")


def with_segments(config: C) -> C:
    """Set the segment, if one window alone does not fit in memory and its segments do.

    A batch whose windows fit one at a time is left as it is: accumulating gradients costs less.

    Args:
        config: The settings of the run, with the vocabulary of its data.
    """
    if config.hardware.segment is not None or _refused(config):
        return config
    # The same in all processes, whose memory may differ.
    world = World.join(choose_device(config.hardware.device))
    segment = int(world.of_first(float(_needed_segment(config))))
    return replace_settings(config, segment=segment) if segment else config


def _needed_segment(config: PretrainConfig) -> int:
    """Return the segment to choose. 0: none is needed, or none helps."""
    usable = usable_memory_bytes(choose_device(config.hardware.device))
    needed = total_bytes(replace_settings(config, grad_accumulation_steps=config.batch_size))
    segment = best_segment(config) if needed > usable else None
    if segment is None or total_bytes(replace_settings(config, segment=segment)) > usable:
        return 0  # `check_memory` refuses what does not fit
    _log.warning(
        "A window of %s tokens takes %.1f GB of memory at once, and %.1f GB are free. Each step is "
        "computed in segments of %s tokens, with the same gradients.",
        f"{config.model.context_length:,}",
        needed / 1e9,
        usable / 1e9,
        f"{segment:,}",
    )
    return segment


def best_segment(config: PretrainConfig) -> int | None:
    """The longest power of two that takes hardly more memory than any. None: none is possible.

    The activations grow with the length of a segment, and the stored states with their number.
    """
    T = config.model.context_length
    segments = [2**i for i in range(T.bit_length()) if _SHORTEST <= 2**i < T]
    if not segments or _refused(config):
        return None
    sizes = {n: total_bytes(replace_settings(config, segment=n)) for n in segments}
    least = min(sizes.values())
    longest: int = max(n for n, size in sizes.items() if size <= _HARDLY_MORE * least)
    return longest


def _refused(config: PretrainConfig) -> bool:
    """Whether other settings do not work with segments."""
    hardware = config.hardware
    return (
        hardware.compile == "on"
        or hardware.parallel == "fsdp"
        or hardware.activation_checkpointing
        or config.documents != "stream"
    )


def total_bytes(config: PretrainConfig) -> int:
    """Estimated peak memory of a run."""
    return sum(count_memory(config).values())


def check_memory(config: PretrainConfig, *, margin: float = 1.0) -> None:
    """Refuse a run that does not fit in memory, and name settings that do.

    Args:
        config: The settings, with the vocabulary of their data.
        margin: Refuse only an estimate of more than this many times the free memory. The estimate
            is within 20 %.

    Raises:
        UserError: It does not fit.
    """
    total, device = total_bytes(config), choose_device(config.hardware.device)
    free = usable_memory_bytes(device)  # includes what this process already holds, as `total` does
    if total <= margin * free:
        return
    found = (
        f"One step takes about {total / 1e9:,.1f} GB of memory{_in_segments(config)} and "
        f"{free / 1e9:,.1f} GB are free.{_learned_positions(config, free)}"
    )
    smaller = _settings_that_fit(config, free)
    if smaller is None:
        raise UserError(
            f"{found} No smaller batch, depth or width fits. A shorter context, a smaller "
            "vocabulary or more memory is needed."
        )
    raise UserError(f"{found} Smaller settings fit.", settings=smaller)


def _in_segments(config: PretrainConfig) -> str:
    """Say what the step takes in segments, in the middle of a sentence."""
    if (segment := config.hardware.segment) is not None:
        return f" in segments of {segment:,} tokens"
    segment = best_segment(config)
    if config.model.context_length < LONG or segment is None:
        return ""
    n_bytes = total_bytes(replace_settings(config, segment=segment))
    return f", or {n_bytes / 1e9:,.1f} GB in segments of {segment:,} tokens,"


def _learned_positions(config: PretrainConfig, free: int) -> str:
    """Say what learned positions take, where that is much; else nothing."""
    table = 4 * parameters_by_part(config.model)["positions"]
    if table < _LARGE_FRAC * free:
        return ""
    more = table * (1 + config.optimizer.n_values(0, 1))
    return (
        f" The learned positions alone take {table / 1e9:,.1f} GB, and {more / 1e9:,.1f} GB more "
        "for their gradient and the averages of the optimizer. Rotary positions take none."
    )


def _settings_that_fit(config: PretrainConfig, free: int) -> dict[str, object] | None:
    """Settings to change so that it fits, first those that do not change the result.

    None: splitting the batch, recomputing, and halving depth and width does not help.
    """

    def needed(changes: dict[str, object]) -> int:
        return total_bytes(replace_settings(config, **changes))

    recomputing: list[dict[str, object]] = [{}]
    if config.hardware.segment is None:
        recomputing.append({"activation_checkpointing": True})
    for again in recomputing:
        parts = config.hardware.grad_accumulation_steps
        while parts < config.batch_size:
            parts = min(2 * parts, config.batch_size)
            changes: dict[str, object] = {"grad_accumulation_steps": parts, **again}
            if needed(changes) <= free:
                return changes
    changes = {"grad_accumulation_steps": config.batch_size, **recomputing[-1]}
    segment = best_segment(replace_settings(config, grad_accumulation_steps=config.batch_size))
    in_segments: dict[str, object] = {
        "grad_accumulation_steps": config.batch_size,
        "segment": segment,
    }
    if segment is not None and needed(in_segments) < needed(changes):
        changes = in_segments
    for other in _for_long_windows(config.model):
        if needed({**other, **changes}) <= free:
            return {**other, **changes}
    for model in _smaller_models(config.model):
        shape = {
            name: getattr(model, name)
            for name in _SHAPE
            if getattr(model, name) != getattr(config.model, name)
        }
        if needed({**shape, **changes}) <= free:
            return {**shape, **changes}
    return None


def _for_long_windows(model: GPTConfig) -> Iterator[dict[str, object]]:
    """Yield changes of a model for long windows, where full attention takes hours per step."""
    rotary: dict[str, object] = {"positions": "rotary"} if model.positions != "rotary" else {}
    others = {**rotary, "layers": "wd" if model.n_layers % 2 == 0 else "w"}
    is_long = model.context_length >= LONG
    if is_long and model.layers is None and "g" in model.kinds:
        yield others
        return
    yield {}
    if is_long and rotary:
        yield rotary
    if is_long and "g" in model.kinds:
        yield others


def _smaller_models(model: GPTConfig) -> Iterator[GPTConfig]:
    """Yield shapes of half the depth and width, again and again, down to a width of 16."""
    while model.d_model >= 16:
        # Half the width with half the heads keeps the width of a head, until one head is left.
        heads = max(1, model.n_heads // 2)
        d_head = model.d_model // model.n_heads if model.n_heads > 1 else model.d_model // 4 * 2
        model = replace(
            model.with_layers(max(1, model.n_layers // 2)),
            d_model=d_head * heads,
            n_heads=heads,
            n_kv_heads=None,  # these two fitted the old shape only
            d_ff=None,
        )
        yield model
