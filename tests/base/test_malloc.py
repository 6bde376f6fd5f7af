"""`keep_freed` keeps freed memory in the process."""

import platform
import subprocess
import sys

import pytest

from groundup.base.malloc import GrowthReturner

_CODE = """
import psutil, sys, torch
from groundup.base.malloc import keep_freed

def held():
    return psutil.Process().memory_info().rss

if sys.argv[1] != "returned":
    limit = sys.argv[1]
    keep_freed(largest_bytes=None if limit == "none" else int(limit))
for n_tensors, n_values in ((1, 50_000_000), (50, 1_000_000)):
    before = held()
    tensors = [torch.ones(n_values) for _ in range(n_tensors)]
    tensors.clear()
    print(held() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a request to glibc")
@pytest.mark.parametrize(
    ("limit", "large_is_kept", "small_are_kept"),
    [("returned", False, False), ("none", True, True), (str(2**23), False, True)],
)
def test_what_is_freed_stays_only_when_asked(
    limit: str, large_is_kept: bool, small_are_kept: bool
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CODE, limit], check=True, capture_output=True, text=True
    )
    large, small = map(int, done.stdout.split())
    # With "none", the small tensors lie in the memory of the large one.
    assert large > 190e6 if large_is_kept else large < 20e6
    assert large + small > 190e6 if small_are_kept else small < 20e6


def test_growth_by_a_quarter_returns_what_was_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    returned: list[int] = []
    in_use = 0
    monkeypatch.setattr("groundup.base.malloc.give_back", lambda: returned.append(in_use))
    growth = GrowthReturner()
    for in_use in (100, 120, 126, 110, 137, 138, 90, 137, 138):
        growth.check(in_use)
    assert returned == [126, 138, 138]  # 110 are needed from the fourth step on
