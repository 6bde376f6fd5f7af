"""Where the numbers live: device, number format, threads. Imports torch only when asked."""

import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from groundup.base.errors import UserError

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
    """Turn "auto", "fp32" or "bf16" into a number format; "auto" is bf16 on CUDA, fp32 on a CPU.

    Raises:
        UserError: The name is unknown.
    """
    import torch

    if name == "auto":
        name = "bf16" if device.type == "cuda" else "fp32"
    formats = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if name not in formats:
        raise UserError(f"unknown number format {name!r}", need="auto, fp32 or bf16")
    return formats[name]


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


def memory_in_use_bytes(device: "torch.device") -> int:
    """Tell how much memory this process holds now: on the GPU where it computes there, else all."""
    if device.type == "cuda":
        import torch

        return torch.cuda.memory_allocated(device)
    import psutil

    return int(psutil.Process().memory_info().rss)


def free_memory_bytes(device: "torch.device") -> int:
    """Tell how much memory one could still take."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return int(psutil.virtual_memory().available)


def usable_memory_bytes(device: "torch.device") -> int:
    """Tell how much this process may hold in all: what it holds, and what is free beside it."""
    return memory_in_use_bytes(device) + free_memory_bytes(device)


def free_disk_bytes(folder: Path) -> int:
    """Tell how much fits on the disk of a folder, which need not be there yet."""
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def peak_memory_bytes(device: "torch.device") -> int:
    """Tell the most memory this process has held so far: on the GPU where it computes there."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    import psutil

    held = psutil.Process().memory_info()
    if hasattr(held, "peak_wset"):  # Windows
        return int(held.peak_wset)
    if sys.platform == "linux":
        # Not getrusage: its maximum holds that of the program that started this one, too.
        status = Path("/proc/self/status").read_text("utf-8", errors="replace")
        if found := re.search(r"VmHWM:\s*(\d+) kB", status):
            return int(found[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def usable_cores() -> int:
    """Count the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
