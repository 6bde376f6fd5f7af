"""The order of an epoch: a keyed permutation of 0..n-1, evaluated where it is asked, never stored.

A Feistel network (Luby and Rackoff, 1988) over the bits that n needs, in two halves that differ by
one bit where their number is odd, with splitmix64's finaliser (Steele, Lea and Flood, 2014) as the
round function; a result outside 0..n-1, less than every second one, is sent through again ("cycle
walking", Black and Rogaway, 2002). Everything is unsigned 64-bit integer arithmetic: no float is
ever involved.
"""

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 6
_LARGEST = 2**62


class Permutation:
    """A bijection of 0..n-1, a pure function of (n, seed, epoch), in O(1) memory.

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
        # A round changes the half on the left, and the halves change places.
        shifts = [np.uint64(64 - left_bits), np.uint64(64 - right_bits)] * (_ROUNDS // 2)
        # Hashing (seed, epoch) keeps seed s, epoch 1 apart from seed s+1, epoch 0.
        digest = hashlib.shake_256(f"groundup order {seed} {epoch}".encode()).digest(8 * _ROUNDS)
        keys = np.frombuffer(digest, dtype="<u8").astype(np.uint64)
        self._rounds = list(zip(keys, shifts, strict=True))

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the items at these positions."""
        return self._walk(positions, self._encrypt)

    def inverse(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the positions of these items."""
        return self._walk(items, self._decrypt)

    def _walk(
        self,
        values: NDArray[np.int64],
        through: Callable[[NDArray[np.uint64]], NDArray[np.uint64]],
    ) -> NDArray[np.int64]:
        result = through(np.asarray(values).astype(np.uint64))
        outside = np.flatnonzero(result >= np.uint64(self.n))
        while outside.size:
            again = through(result[outside])
            result[outside] = again
            outside = outside[again >= np.uint64(self.n)]
        return result.astype(np.int64)

    def _encrypt(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = values >> self._right_bits, values & self._mask
        for key, shift in self._rounds:
            left, right = right, left ^ (_mix(right ^ key) >> shift)
        return (left << self._right_bits) | right

    def _decrypt(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = values >> self._right_bits, values & self._mask
        for key, shift in self._rounds[::-1]:
            left, right = right ^ (_mix(left ^ key) >> shift), left
        return (left << self._right_bits) | right


def _bits(n: int) -> int:
    """How many bits 0..n-1 need, two at least."""
    return max(2, (n - 1).bit_length())


def torch_order(n: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Give the order of torch's own loader in an epoch, after `torch.manual_seed(seed)`.

    Each epoch draws two numbers from the global state, one for worker processes and one that seeds
    the epoch's permutation (torch/utils/data: `_BaseDataLoaderIter`, `RandomSampler`).
    """
    import torch

    if seed >= 2**63:  # a text of a mixture; torch takes no more
        seed = int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:7], "big")
    state = torch.Generator().manual_seed(seed)
    draws = torch.empty(2 * epoch + 2, dtype=torch.int64)
    for i in range(len(draws)):
        draws[i] = torch.empty((), dtype=torch.int64).random_(generator=state)
    order = torch.Generator().manual_seed(int(draws[-1]))
    return torch.randperm(n, generator=order).numpy()


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
