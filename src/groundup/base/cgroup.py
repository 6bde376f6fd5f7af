"""Limits of memory and cores that a container sets for its processes with Linux cgroups.

A limit of version 2 is in `memory.max` and `cpu.max`, one of version 1 in `memory.limit_in_bytes`
and `cpu.cfs_quota_us`. The limits of the parent groups hold, too. Other systems have no such files.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path


def free_in_cgroup_bytes(root: Path = Path("/")) -> int | None:
    """Memory that the limits leave to this process, in bytes. None: there is no limit.

    Cached files that were not used lately count as free: the kernel drops them first.

    Args:
        root: The folder that holds `proc` and `sys`.
    """
    left = []
    for folder in _folders(root, "memory"):
        limit = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
        used = _words(folder / "memory.current") or _words(folder / "memory.usage_in_bytes")
        if limit and used and limit != ["max"]:
            stat = " ".join(_words(folder / "memory.stat"))
            # In version 1 only the total includes the child groups.
            cached = re.search(r"\btotal_inactive_file (\d+)", stat)
            cached = cached or re.search(r"\binactive_file (\d+)", stat)
            cached_bytes = int(cached[1]) if cached else 0
            left.append(max(0, int(limit[0]) - int(used[0]) + cached_bytes))
    return min(left, default=None)


def cores_of_cgroup(root: Path = Path("/")) -> int | None:
    """Number of cores that the limits allow, rounded up. None: there is no limit."""
    cores = []
    for folder in _folders(root, "cpu"):
        limit = _words(folder / "cpu.max")
        limit = limit or [
            *_words(folder / "cpu.cfs_quota_us"),
            *_words(folder / "cpu.cfs_period_us"),
        ]
        if len(limit) == 2 and limit[0] not in ("max", "-1"):
            cores.append(max(1, math.ceil(int(limit[0]) / int(limit[1]))))
    return min(cores, default=None)


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """The folders of the groups of this process that a controller has, and of their parents."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        mount = root / "sys/fs/cgroup"
        if controllers:  # version 1; a line of version 2 has none
            mount /= controller
            if controller not in controllers.split(","):
                continue
        parts = path.strip("/").split("/")
        yield from (mount.joinpath(*parts[:depth]) for depth in range(len(parts) + 1))


def _words(file: Path) -> list[str]:
    return " ".join(_lines(file)).split()


def _lines(file: Path) -> list[str]:
    """The lines of a file of the kernel; none if it is missing."""
    try:
        return file.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []
