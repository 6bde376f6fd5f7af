"""Device, dtype and number of threads. torch is imported only when a function needs it."""

import os
from typing import TYPE_CHECKING

from groundup.base.errors import UserError
from groundup.base.machine import usable_cores

if TYPE_CHECKING:
    import torch


def choose_device(name: str = "auto") -> "torch.device":
    """Turn "auto", "cpu", "cuda" or "cuda:1" into a device; "auto" takes CUDA where there is one.

    Of several processes on a machine (torchrun) each takes the GPU of its own number.

    Raises:
        UserError: A CUDA device is asked for and none is there, or the name is unknown.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"unknown device {name!r}", need="auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "no CUDA device is usable here", need="a CUDA build of torch", type_this="--device cpu"
        )
    if device == torch.device("cuda") and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    return device


def choose_dtype(name: str, device: "torch.device") -> "torch.dtype":
    """Turn "auto", "fp32" or "bf16" into a dtype; "auto" is bf16 where the hardware multiplies it.

    Raises:
        UserError: The name is unknown.
    """
    import torch

    if name == "auto":
        name = "bf16" if _has_fast_bf16(device) else "fp32"
    formats = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if name not in formats:
        raise UserError(f"unknown number format {name!r}", need="auto, fp32 or bf16")
    return formats[name]


def _has_fast_bf16(device: "torch.device") -> bool:
    import torch

    if device.type != "cpu":
        return True
    # Private names: where another torch lacks them, bf16 is not known to be fast.
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def set_threads(n_threads: int | None = None) -> int:
    """Set how many CPU threads torch uses; give the number.

    None: the cores this process may use, shared with the others that torchrun has started here.

    Raises:
        UserError: Fewer than one thread is asked for.
    """
    import torch

    if n_threads is not None and n_threads < 1:
        raise UserError(f"{n_threads} threads", need="one or more", type_this="--threads 1")
    n_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    wanted = n_threads or max(1, usable_cores() // n_processes)
    torch.set_num_threads(wanted)
    return wanted
