"""Device, dtype and number of threads. Functions import torch only when they are called."""

import os
from typing import TYPE_CHECKING

from groundup.base.errors import UserError
from groundup.base.machine import usable_cores

if TYPE_CHECKING:
    import torch


def choose_device(name: str = "auto") -> "torch.device":
    """Turn "auto", "cpu", "cuda" or "cuda:1" into a device; "auto" uses CUDA if it is available.

    Under torchrun, "cuda" is the GPU with the local rank of the process.

    Raises:
        UserError: A CUDA device is requested and none is available, or the name is unknown.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(
            f"The device {name!r} is unknown. Expected auto, cpu or cuda.",
            settings={"device": "auto"},
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "No CUDA device is available. A GPU and a CUDA build of torch are required.",
            settings={"device": "cpu"},
        )
    if device == torch.device("cuda") and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    return device


def choose_dtype(name: str, device: "torch.device") -> "torch.dtype":
    """Turn "auto", "fp32" or "bf16" into a dtype; "auto" is bf16 if the hardware multiplies it.

    Raises:
        UserError: The name is unknown.
    """
    import torch

    if name == "auto":
        name = "bf16" if _has_fast_bf16(device) else "fp32"
    formats = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if name not in formats:
        raise UserError(
            f"The dtype {name!r} is unknown. Expected auto, fp32 or bf16.",
            settings={"dtype": "auto"},
        )
    return formats[name]


def _has_fast_bf16(device: "torch.device") -> bool:
    import torch

    if device.type != "cpu":
        return True
    # Private names of torch: if a version lacks them, bf16 counts as slow.
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def set_threads(n_threads: int | None = None) -> int:
    """Set the number of CPU threads that torch uses, and return it.

    None: the cores that this process may use, divided by the number of processes that torchrun
    started on this machine.

    Raises:
        UserError: Fewer than one thread is requested.
    """
    import torch

    if n_threads is not None and n_threads < 1:
        raise UserError(
            f"The number of threads is {n_threads}. Expected at least 1.", settings={"threads": 1}
        )
    n_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    n_threads = n_threads or max(1, usable_cores() // n_processes)
    torch.set_num_threads(n_threads)
    return n_threads
