"""Memory, disk space and cores of this machine. Functions import torch only for a GPU."""

import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from groundup.base.cgroup import cores_of_cgroup, free_in_cgroup_bytes

if TYPE_CHECKING:
    import torch

FRESH_S = 30.0
"""A process that is younger when its budget starts was started for it: its age counts, too."""


def memory_in_use_bytes(device: "torch.device") -> int:
    """Memory that this process uses now, in bytes: on the GPU for a CUDA device, else in RAM."""
    if device.type == "cuda":
        import torch

        return torch.cuda.memory_allocated(device)
    import psutil

    return int(psutil.Process().memory_info().rss)


def free_memory_bytes(device: "torch.device") -> int:
    """Memory that is still available, in bytes; on a GPU with what torch keeps for reuse.

    In a container, RAM is what its limit leaves, if that is less. The processes that torchrun has
    started on this machine have equal shares of it.
    """
    if device.type == "cuda":
        import torch

        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    import psutil

    available, left = int(psutil.virtual_memory().available), free_in_cgroup_bytes()
    free = available if left is None else min(available, left)
    return free // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def usable_memory_bytes(device: "torch.device") -> int:
    """Memory that this process could use, in bytes: what it uses now plus what is available."""
    return memory_in_use_bytes(device) + free_memory_bytes(device)


def free_disk_bytes(folder: Path) -> int:
    """Free space on the disk of a folder, in bytes. The folder does not have to exist yet."""
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def peak_memory_bytes(device: "torch.device") -> int:
    """Peak memory of this process so far, in bytes: on the GPU for a CUDA device, else in RAM."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    import psutil

    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # Windows
        return int(memory.peak_wset)
    if sys.platform == "linux":
        # Not getrusage: its maximum includes that of the parent process before the fork.
        status = Path("/proc/self/status").read_text("utf-8", errors="replace")
        if found := re.search(r"VmHWM:\s*(\d+) kB", status):
            return int(found[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def process_age_s() -> float:
    """Seconds since this process was started, with the imports before the first line of a command.

    >>> 0.0 < process_age_s()
    True
    """
    import psutil

    return time.time() - float(psutil.Process().create_time())


def started_at() -> float:
    """When the command of this process was started, by `time.monotonic()`.

    That is when the process was started, or now, if it is older and calls several commands.
    """
    age_s, now_s = process_age_s(), time.monotonic()
    return now_s - age_s if 0.0 < age_s < FRESH_S else now_s


def usable_cores() -> int:
    """Number of cores that this process may use, within the limit of a container."""
    if hasattr(os, "sched_getaffinity"):
        n_cores = len(os.sched_getaffinity(0))
    else:
        n_cores = os.cpu_count() or 1
    return min(n_cores, cores_of_cgroup() or n_cores)
