"""The limits of a container: of versions 1 and 2 of cgroups, with the limits of parent groups."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from groundup.base import machine
from groundup.base.cgroup import cores_of_cgroup, free_in_cgroup_bytes
from groundup.base.device import choose_device

V2 = {
    "proc/self/cgroup": "0::/box/job\n",
    "sys/fs/cgroup/box/memory.max": "9000\n",
    "sys/fs/cgroup/box/memory.current": "3000\n",
    "sys/fs/cgroup/box/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/box/job/memory.max": "8000\n",
    "sys/fs/cgroup/box/job/memory.current": "2500\n",
    "sys/fs/cgroup/box/job/memory.stat": "anon 9\ninactive_file 700\nactive_file 40\n",
    "sys/fs/cgroup/box/job/cpu.max": "max 100000\n",
}
V1 = {
    # The path is that of the host; in the container its group is the root.
    "proc/self/cgroup": "4:memory:/docker/a1\n3:cpu,cpuacct:/docker/a1\n1:name=systemd:/\n0::/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "5000\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "4000\n",
    "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 200\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
}
FREE = {
    "proc/self/cgroup": "2:cpu:/\n0::/\n",
    "sys/fs/cgroup/memory.max": "max\n",
    "sys/fs/cgroup/memory.current": "10\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
}


@pytest.mark.parametrize(
    ("files", "n_bytes", "n_cores"),
    [
        (V2, 6000, 2),  # 9000 - 3000 of the parent; 8000 - 2500 + 700 would be 6200
        (V2 | {"sys/fs/cgroup/box/job/memory.stat": "anon 9\n"}, 5500, 2),
        (V2 | {"sys/fs/cgroup/box/job/memory.current": "9500\n"}, 0, 2),
        (V2 | {"sys/fs/cgroup/box/cpu.max": "50000 100000\n"}, 6000, 1),
        (V1, 1200, 3),
        (FREE, None, None),
        ({}, None, None),
    ],
)
def test_the_smallest_limit_holds(
    files: dict[str, str], n_bytes: int | None, n_cores: int | None, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert (free_in_cgroup_bytes(tmp_path), cores_of_cgroup(tmp_path)) == (n_bytes, n_cores)


@pytest.mark.parametrize(("limit", "expected"), [(None, 1000), (1500, 1000), (600, 600)])
def test_free_memory_is_within_the_limit(
    limit: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    monkeypatch.setattr(machine, "free_in_cgroup_bytes", lambda: limit)
    assert machine.free_memory_bytes(choose_device("cpu")) == expected


@pytest.mark.parametrize(("limit", "expected"), [(None, 4), (9, 4), (2, 2)])
def test_cores_are_within_the_limit(
    limit: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: set(range(4)), raising=False)
    monkeypatch.setattr(machine, "cores_of_cgroup", lambda: limit)
    assert machine.usable_cores() == expected
