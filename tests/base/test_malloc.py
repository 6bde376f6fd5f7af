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
