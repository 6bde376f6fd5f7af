"""What the C library does with memory that is free: back to the system, or kept for the next step.

Both are requests to glibc; elsewhere they do nothing.
"""

import ctypes
from contextlib import suppress

_EVERY_BYTES = 2**26
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # as in malloc.h


class MemoryReturner:
    """Gives memory back now and then, by the bytes of text that passed.

    In a stream of texts of many sizes glibc's heap grows by holes between them, 70 MB for every
    gigabyte of text; `malloc_trim` hands the holes back.
    """

    def __init__(self) -> None:
        self._n_bytes = 0

    def passed(self, n_bytes: int) -> None:
        """Note that so many bytes went through."""
        self._n_bytes += n_bytes
        if self._n_bytes >= _EVERY_BYTES:
            self._n_bytes = 0
            give_back()


def keep_freed() -> None:
    """Let what is freed from now on stay with the process, for training asks for the same again.

    Large tensors would otherwise be handed back and fetched anew in every step, and the system
    fills each page with zeros first: a fifth of a step at GPT-2's shape.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def give_back() -> None:
    """Hand back what is free."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
