"""What a step over long windows costs with each kind of layer, at once and in segments."""

import logging
from dataclasses import dataclass, replace

from groundup.base.device import choose_device
from groundup.base.fields import replace_settings
from groundup.base.machine import usable_memory_bytes
from groundup.base.malloc import give_back
from groundup.planning.fitting import best_segment, total_bytes
from groundup.planning.throughput import probe
from groundup.train.config import PretrainConfig
from groundup.train.data import Data, open_texts, training_windows, with_vocabulary

_log = logging.getLogger(__name__)
_NAMES = {"g": "full", "w": "window {window:,}", "d": "delta rule"}
_PROBE_S = 0.1
_AGAIN = 4 / 3
"""Time of a step in segments: a forward pass more, beside one and a backward pass of two."""


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """The cost of a step with one kind of layer."""

    layers: str
    """The pattern of the layers."""
    name: str
    """The kind in words."""
    memory_bytes: int
    """Peak memory of a run that computes a window at once."""
    step_s: float
    """Seconds of such a step, measured on shorter windows."""
    segment: int | None
    """Tokens of a segment that takes the least memory. None: segments do not work."""
    segment_memory_bytes: int | None
    """Peak memory of a run in segments."""
    segment_step_s: float | None
    """Seconds of a step in segments."""
    fits: bool
    """Whether a window at once fits in memory."""
    fits_in_segments: bool
    """Whether its segments do."""


def compare_layers(config: PretrainConfig) -> tuple[LayerCost, ...]:
    """Estimate a step of the run if all layers were of one kind, and with its own pattern.

    Raises:
        UserError: There is no data, or the text is shorter than the context.
    """
    data = open_texts(config.texts)
    config = with_vocabulary(config, data)
    training_windows(config, data)
    free = usable_memory_bytes(choose_device(config.hardware.device))
    own = "".join(config.model.kinds)
    patterns = dict.fromkeys([*(kind * len(own) for kind in _NAMES), own])
    return tuple(_cost(config, data, pattern, free) for pattern in patterns)


def _cost(config: PretrainConfig, data: Data, pattern: str, free: int) -> LayerCost:
    model = replace(
        config.model,
        layers=pattern,
        window=config.model.window if "w" in pattern else None,
        sliding_window=None,
        sliding_layers=None,
        look_back=False,
    )
    config = replace(replace_settings(config, segment=None, compile="off"), model=model)
    at_once, segment = total_bytes(config), best_segment(config)
    step_s = probe(config, data, _PROBE_S).step_s
    give_back()  # the memory in use now is a part of the next estimate
    in_segments = None if segment is None else replace_settings(config, segment=segment)
    needed = None if in_segments is None else total_bytes(in_segments)
    kinds = set(pattern)
    name = _NAMES[pattern[0]].format(window=model.window_width) if len(kinds) == 1 else pattern
    _log.info("Layers %s: %d bytes, %.3g s per step.", pattern, at_once, step_s)
    return LayerCost(
        layers=pattern,
        name=name,
        memory_bytes=at_once,
        step_s=step_s,
        segment=segment,
        segment_memory_bytes=needed,
        segment_step_s=None if segment is None else _AGAIN * step_s,
        fits=at_once <= free,
        fits_in_segments=needed is not None and needed <= free,
    )
