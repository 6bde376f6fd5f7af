"""`keep_freed` keeps freed memory in the process."""

import platform
import subprocess
import sys

import pytest

from groundup.base.malloc import GrowthReturner

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


def test_growth_by_a_quarter_returns_what_was_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    returned: list[int] = []
    in_use = 0
    monkeypatch.setattr("groundup.base.malloc.give_back", lambda: returned.append(in_use))
    growth = GrowthReturner()
    for in_use in (100, 120, 126, 110, 137, 138, 90, 137, 138):
        growth.check(in_use)
    assert returned == [126, 138, 138]  # 110 are needed from the fourth step on
