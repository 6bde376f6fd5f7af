"""`keep_freed` keeps freed memory in the process."""

import platform
import subprocess
import sys

import pytest

_CODE = """
import psutil, torch
from groundup.base.malloc import keep_freed

def held():
    return psutil.Process().memory_info().rss

for kept in (False, True):
    if kept:
        keep_freed()
    before = held()
    large = torch.ones(50_000_000)
    del large
    print(held() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a request to glibc")
def test_what_is_freed_stays_only_when_asked() -> None:
    done = subprocess.run([sys.executable, "-c", _CODE], check=True, capture_output=True, text=True)
    without, with_it = map(int, done.stdout.split())
    assert without < 20e6
    assert with_it > 190e6


_GROWING = """
import torch
from groundup.base.machine import memory_in_use_bytes, peak_memory_bytes
from groundup.base.malloc import GrowthReturner, keep_freed

keep_freed()
cpu, growth, kept = torch.device("cpu"), GrowthReturner(), []
for step in range(20):
    large = torch.ones(10_000_000 + 100_000 * step)  # does not fit where an earlier one was
    kept.append(torch.ones(1000))
    del large
    if {checked}:
        growth.check(memory_in_use_bytes(cpu))
print(peak_memory_bytes(cpu))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a request to glibc")
def test_a_fragmented_heap_is_returned() -> None:
    without, checked = (
        int(subprocess.check_output([sys.executable, "-c", _GROWING.format(checked=checked)]))
        for checked in (False, True)
    )
    assert without - checked > 300e6
