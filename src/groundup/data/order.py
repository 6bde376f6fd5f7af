"""The order of an epoch: a keyed permutation of 0..n-1, computed on demand and never stored.

A Feistel network (Luby and Rackoff, 1988) over the bits that n needs, in two halves that differ by
one bit where their number is odd, with the finalizer of splitmix64 (Steele, Lea and Flood, 2014) as
the round function. A result outside 0..n-1 is encrypted again until it is inside ("cycle walking",
Black and Rogaway, 2002); this happens less than every second time. All arithmetic is on unsigned
64-bit integers: a float would lose the low bits of large positions.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 6
_LARGEST = 2**62


class Permutation:
    """A bijection of 0..n-1 that is a pure function of (n, seed, epoch) and takes O(1) memory.

    >>> order = Permutation(10, seed=1, epoch=0)
    >>> sorted(order(np.arange(10)).tolist()) == list(range(10))
    True
    """

    def __init__(self, n: int, *, seed: int, epoch: int = 0) -> None:
        assert 1 <= n <= _LARGEST, n
        self.n = n
        self._bits = _bits(n)
        left_bits, right_bits = self._bits // 2, self._bits - self._bits // 2
        self._right_bits = np.uint64(right_bits)
        self._mask = np.uint64((1 << right_bits) - 1)
        # Each round changes the left half, then the halves swap: their widths alternate.
        shifts = [np.uint64(64 - left_bits), np.uint64(64 - right_bits)] * (_ROUNDS // 2)
        # Hashing (seed, epoch) keeps seed s, epoch 1 different from seed s+1, epoch 0.
        digest = hashlib.shake_256(f"groundup order {seed} {epoch}".encode()).digest(8 * _ROUNDS)
        keys = np.frombuffer(digest, dtype="<u8").astype(np.uint64)
        self._rounds = list(zip(keys, shifts, strict=True))

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the items at these positions."""
        result = self._encrypt(np.asarray(positions).astype(np.uint64))
        outside = np.flatnonzero(result >= np.uint64(self.n))
        while outside.size:
            again = self._encrypt(result[outside])
            result[outside] = again
            outside = outside[again >= np.uint64(self.n)]
        return result.astype(np.int64)

    def _encrypt(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = values >> self._right_bits, values & self._mask
        for key, shift in self._rounds:
            # The high bits of the hash: each of them depends on all bits of its input.
            left, right = right, left ^ (_mix(right ^ key) >> shift)
        return (left << self._right_bits) | right


def _bits(n: int) -> int:
    """Return the number of bits that 0..n-1 need, at least 2: one for each half."""
    return max(2, (n - 1).bit_length())


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
