"""Whether to compile the training step: only where the steps of the run earn back the time.

Compiling takes about half a minute once, and then each step takes less time. Both are stated here
from measurements (docs/experiments.md); the time of the steps is estimated from the FLOPs of the
run and the speed of matrix products on this device.
"""

import importlib.util
import logging
import os
import shutil
import time
from dataclasses import dataclass
from typing import TypeVar

import torch

from groundup.base.device import choose_device, choose_dtype
from groundup.base.fields import replace_settings
from groundup.model.count import flops_per_token
from groundup.train.config import PretrainConfig
from groundup.train.distributed import World, n_processes

C = TypeVar("C", bound=PretrainConfig)

_log = logging.getLogger(__name__)
_COMPILE_S, _GAIN = 30.0, 0.25
"""On a GPU: seconds for compiling, and the fraction of the time of a step that it saves."""
_SHARE_OF_PEAK, _LAYER_S = 0.4, 2e-3
"""Without compiling, a GPU reaches this fraction of the speed of matrix products in large models;
in small ones it waits this long per layer until the kernels are launched."""
_SIZE = 4096
"""Rows and columns of the matrices whose product is timed."""


@dataclass(frozen=True, kw_only=True)
class Compilation:
    """Whether a run is compiled, and why."""

    on: bool
    reason: str


def with_compilation(config: C, seconds: float | None = None) -> tuple[C, Compilation]:
    """Replace compile="auto" by "on" or "off".

    Args:
        config: The settings of the run, with the vocabulary of its data.
        seconds: Time for the steps, under a budget. None: estimated.

    Returns:
        The settings, and the reason in a sentence.
    """
    hardware = config.hardware
    if hardware.compile != "auto":
        return config, Compilation(on=hardware.compile == "on", reason="As set.")
    choice = _choose(config, seconds)
    _log.info("compile=auto: %s. %s", "on" if choice.on else "off", choice.reason)
    return replace_settings(config, compile="on" if choice.on else "off"), choice


def _choose(config: PretrainConfig, seconds: float | None) -> Compilation:
    hardware, device = config.hardware, choose_device(config.hardware.device)
    if device.type != "cuda":
        return Compilation(
            on=False,
            reason="On a CPU it saved 0 to 20 % of a step when measured, which rarely pays back "
            "the 45 s that it takes.",
        )
    if hardware.segment is not None:
        return Compilation(on=False, reason="It does not work with segments.")
    if n_processes() > 1 and hardware.parallel == "fsdp":
        return Compilation(on=False, reason="It does not work with sharded weights.")
    if missing := _missing(device):
        _log.warning("The training step is not compiled: %s.", missing)
        return Compilation(on=False, reason=f"{missing}.")
    if seconds is None:
        # The same number in all processes, so that they choose the same.
        step_s = World.join(device).of_first(_estimated_step_s(config, device))
        seconds = config.steps * step_s
    pays_after_s = _COMPILE_S / _GAIN
    return Compilation(
        on=seconds >= pays_after_s,
        reason=f"It takes about {_COMPILE_S:.0f} s and saves about {_GAIN:.0%} of the time of a "
        f"step, so it pays back in runs of {pays_after_s:.0f} s and more. Without it, the steps of "
        f"this run take about {seconds:,.0f} s.",
    )


def _missing(device: torch.device) -> str:
    """What `torch.compile` needs for a GPU and this machine does not have; empty: nothing."""
    if torch.cuda.get_device_capability(device) < (7, 0):
        return "Triton does not support this GPU"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    compilers = (os.environ.get("CC", "cc"), "gcc", "clang")
    if not any(shutil.which(name) for name in compilers):
        return "There is no C compiler, which Triton needs"
    return ""


def _estimated_step_s(config: PretrainConfig, device: torch.device) -> float:
    """Seconds of a step that is not compiled."""
    parts, model = config.hardware.grad_accumulation_steps, config.model
    flops = flops_per_token(model) * config.batch_size * model.context_length / n_processes()
    dtype = choose_dtype(config.hardware.dtype, device)
    speed = _SHARE_OF_PEAK * _product_flops_per_s(device, dtype)
    return max(flops / speed, parts * model.n_layers * _LAYER_S)


def _product_flops_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """Measure matrix products for some milliseconds."""
    a = torch.zeros(_SIZE, _SIZE, device=device, dtype=dtype)
    spans = []
    for _ in range(4):  # the first one starts the library
        torch.cuda.synchronize(device)
        began_at = time.perf_counter()
        a @ a
        torch.cuda.synchronize(device)
        spans.append(time.perf_counter() - began_at)
    return 2 * _SIZE**3 / min(spans)
