"""Requests to glibc's malloc: return freed memory to the system, or keep it for reuse.

On other C libraries they do nothing.
"""

import ctypes
from contextlib import suppress
from typing import TYPE_CHECKING

from groundup.base.machine import memory_in_use_bytes

if TYPE_CHECKING:
    import torch

_EVERY_BYTES = 2**26
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # as in malloc.h
_N_MMAPS = 65_536  # glibc's default of M_MMAP_MAX


class MemoryReturner:
    """Returns freed memory to the system at intervals of processed text.

    Texts of many sizes fragment glibc's heap: it grows by 70 MB for every gigabyte of text.
    `malloc_trim` returns the unused pages.
    """

    def __init__(self) -> None:
        self._n_bytes = 0

    def passed(self, n_bytes: int) -> None:
        """Count bytes of processed text, and return memory when enough have passed."""
        self._n_bytes += n_bytes
        if self._n_bytes >= _EVERY_BYTES:
            self._n_bytes = 0
            give_back()


class GrowthReturner:
    """Returns freed memory to the system when the process has grown by a quarter.

    Under `keep_freed`, batches of many shapes fragment the heap: a process that needs 4 GB would
    grow to 8 GB.
    """

    def __init__(self) -> None:
        self._needed_bytes = 0
        self._just_returned = True

    def step(self, device: "torch.device") -> None:
        """Check after a step on this device. A GPU's memory is not on the heap."""
        if device.type == "cpu":
            self.check(memory_in_use_bytes(device))

    def check(self, in_use_bytes: int) -> None:
        """Compare the memory in use after a step with what a step needs."""
        if self._just_returned:
            self._needed_bytes = max(self._needed_bytes, in_use_bytes)
            self._just_returned = False
        elif in_use_bytes > 1.25 * self._needed_bytes:
            give_back()
            self._just_returned = True


def keep_freed(*, largest_bytes: int | None = None) -> None:
    """Keep memory that is freed from now on in the process: each training step reuses it.

    By default glibc returns large tensors to the system and allocates them again in every step,
    and the kernel zeroes each page first: a fifth of a step at GPT-2's shape.

    Args:
        largest_bytes: Return larger tensors to the system all the same, so that they do not
            fragment the heap; at most 32 MiB, glibc's limit. None: keep tensors of any size.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_MAX, 0 if largest_bytes is None else _N_MMAPS)
        if largest_bytes is not None:
            libc.mallopt(_M_MMAP_THRESHOLD, largest_bytes)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def give_back() -> None:
    """Return freed memory to the system."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
