"""Find runs of integers (tokens, characters) that two sequences have in common, by hashing.

The longer sequence is read once, in blocks if it is large, and nothing of it is kept.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int, UInt64
from numpy.typing import NDArray

_FACTOR = 0x9E3779B97F4A7C15  # odd and with well mixed bits: 2^64 / golden ratio
_TABLE_BITS = 20
_PAIRS = 2**20


def hash_runs(values: NDArray[np.integer], length: int) -> UInt64[np.ndarray, " runs"]:
    """Hash every run of `length` consecutive values; there are `len(values) - length + 1` runs.

    The hash is a polynomial modulo 2^64. Runs of 2 k values are made of two runs of k, so the
    number of passes over the array grows with the logarithm of the length.

    >>> hashes = hash_runs(np.array([1, 2, 3, 1, 2]), 2)
    >>> len(hashes), bool(hashes[0] == hashes[3])
    (4, True)
    """
    if length < 1 or len(values) < length:
        return np.zeros(0, dtype=np.uint64)
    single = (values.astype(np.uint64) + np.uint64(1)) * np.uint64(_FACTOR)
    single ^= single >> np.uint64(29)
    doubled, width, factor = single, 1, _FACTOR  # runs of `width`; factor is _FACTOR ** width
    hashes, done = np.zeros(len(values), dtype=np.uint64), 0  # of runs of `done` values
    while True:
        if length & width:
            n = len(values) - done - width + 1
            hashes = hashes[:n] * np.uint64(factor) + doubled[done : done + n]
            done += width
        if done == length:
            return hashes
        doubled = doubled[:-width] * np.uint64(factor) + doubled[width:]
        width, factor = 2 * width, factor * factor % 2**64


class RunIndex:
    """The hashes of some runs, to look up whether the runs of another sequence are among them.

    Args:
        hashes: What `hash_runs` returned, or a part of it.
    """

    def __init__(self, hashes: UInt64[np.ndarray, " runs"]) -> None:
        self.wanted = np.unique(hashes)
        # A table of a million booleans rules out nearly every run before the binary search.
        self._table = np.zeros(1 << _TABLE_BITS, dtype=np.bool_)
        self._table[self.wanted >> np.uint64(64 - _TABLE_BITS)] = True

    def find(self, hashes: UInt64[np.ndarray, " runs"]) -> Int[np.ndarray, " found"]:
        """Return the positions whose hash is in the index, in ascending order."""
        if len(self.wanted) == 0:
            return np.zeros(0, dtype=np.int64)
        places = np.flatnonzero(self._table[hashes >> np.uint64(64 - _TABLE_BITS)])
        nearest = np.searchsorted(self.wanted, hashes[places]).clip(max=len(self.wanted) - 1)
        found: Int[np.ndarray, " found"] = places[self.wanted[nearest] == hashes[places]]
        return found


def equal_runs(
    ours: NDArray[np.integer], theirs: NDArray[np.integer], length: int
) -> Iterator[tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]]:
    """List all pairs of positions whose next `length` values have the same hash.

    They come in parts of about a million pairs: where both repeat one value, there are as many as
    the product of the lengths.

    >>> [(here, there)] = equal_runs(np.array([5, 6, 7]), np.array([6, 7, 0, 6, 7]), 2)
    >>> here.tolist(), there.tolist()
    ([1, 1], [0, 3])
    """
    mine, all_theirs = hash_runs(ours, length), hash_runs(theirs, length)
    order = np.argsort(mine, kind="stable")
    there = RunIndex(mine).find(all_theirs)
    found = all_theirs[there]
    first = np.searchsorted(mine[order], found, side="left")
    n_each = np.searchsorted(mine[order], found, side="right") - first
    # One pair for each of our positions with that hash.
    ends = np.cumsum(n_each)
    parts = np.flatnonzero(np.diff(ends // _PAIRS, prepend=0))
    for some in np.split(np.arange(len(there)), parts):
        n = n_each[some]
        within = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
        yield order[np.repeat(first[some], n) + within], np.repeat(there[some], n)
