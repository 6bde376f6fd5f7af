"""Memory that is free goes back to the system, where the C library can be asked to."""

import ctypes
from contextlib import suppress

_EVERY_BYTES = 2**26


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


def give_back() -> None:
    """Hand back what is free; do nothing without glibc."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
