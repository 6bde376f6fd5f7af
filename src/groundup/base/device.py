"""Device, dtype and number of threads. Functions import torch only when they are called."""

import os
from typing import TYPE_CHECKING

from groundup.base.errors import UsageError, UserError
from groundup.base.machine import usable_cores

if TYPE_CHECKING:
    import torch

_MOST_THREADS = 1024


def choose_device(name: str = "auto") -> "torch.device":
    """Turn "auto", "cpu", "cuda", "cuda:1" or "mps" into a device.

    "auto" is the first of CUDA, MPS (the GPU of a Mac) and the CPU that is available. Under
    torchrun, "cuda" is the GPU with the local rank of the process. MPS is untested.

    Raises:
        UserError: A GPU is requested and none is available, or the name is unknown.
    """
    import torch

    if name == "auto":
        has_gpu = torch.cuda.is_available()
        name = "cuda" if has_gpu else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise _unknown_device(name) from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise _unknown_device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "No CUDA device is available. A GPU and a CUDA build of torch are required.",
            settings={"device": "cpu"},
        )
    if device.type == "cuda" and device.index is not None:
        n_devices = torch.cuda.device_count()
        if device.index >= n_devices:
            raise UsageError(
                f"There is no device {name}. This machine has {n_devices} CUDA "
                f"device{'' if n_devices == 1 else 's'}, counted from 0.",
                settings={"device": "cuda:0"},
            )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError(
            "MPS is not available. A Mac with an Apple GPU and a build of torch for it are "
            "required.",
            settings={"device": "cpu"},
        )
    if device == torch.device("cuda") and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # its events and random numbers are those that torch uses
    return device


def _unknown_device(name: str) -> UserError:
    return UsageError(
        f"The device {name!r} is unknown. Expected auto, cpu, cuda, cuda:N or mps.",
        settings={"device": "auto"},
    )


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

    if device.type == "cuda":  # from Ampere on
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False  # only some of them multiply it
    # Private names of torch: if a version lacks them, bf16 counts as slow.
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def set_threads(n_threads: int | None = None) -> int:
    """Set the number of CPU threads that torch uses, and return it.

    None: the cores that this process may use, divided by the number of processes that torchrun
    started on this machine.

    Raises:
        UserError: Fewer than one thread is requested, or too many.
    """
    import torch

    if n_threads is not None and not 1 <= n_threads <= _MOST_THREADS:
        raise UsageError(
            f"The number of threads is {n_threads}. Expected at least 1, and at most "
            f"{_MOST_THREADS:,}.",
            settings={"threads": 1 if n_threads < 1 else usable_cores()},
        )
    n_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    n_threads = n_threads or max(1, usable_cores() // n_processes)
    torch.set_num_threads(n_threads)
    return n_threads
