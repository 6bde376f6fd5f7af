"""Freed memory stays with a process that trains."""

import platform
import subprocess
import sys

import pytest

_TOLD = """
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
    told = subprocess.run([sys.executable, "-c", _TOLD], check=True, capture_output=True, text=True)
    without, with_it = map(int, told.stdout.split())
    assert without < 20e6
    assert with_it > 190e6
