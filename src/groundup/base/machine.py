"""What this machine has: memory, disk and cores. torch is imported only where it is needed."""

import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


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
