"""The endless sequence of window indices: one epoch after another, each in its own order."""

import hashlib
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from groundup.data.order import Permutation

Order = Literal["permuted", "sequential", "torch"]

_BLOCK = 2**16


class Epochs:
    """The window indices of one text, epoch after epoch.

    Position p is in epoch p // n. The order is computed for up to 65,536 positions at once; nothing
    larger is kept.
    """

    def __init__(self, n: int, seed: int, order: Order) -> None:
        self.n, self.seed, self.order = n, seed, order
        nothing = np.empty(0, dtype=np.int64)
        self._block = (-1, nothing)
        self._epoch = (-1, nothing)

    def windows(self, first: int, count: int) -> NDArray[np.int64]:
        """Return the window indices at `count` positions from `first` on."""
        if self.order == "sequential":
            return np.arange(first, first + count, dtype=np.int64) % self.n
        parts = []
        while count > 0:
            epoch, place = divmod(first, self.n)
            begin = place - place % _BLOCK
            block = self._block_at(epoch, begin)
            parts.append(block[place - begin : place - begin + count])
            first, count = first + len(parts[-1]), count - len(parts[-1])
        return np.concatenate(parts) if len(parts) != 1 else parts[0]

    def _block_at(self, epoch: int, begin: int) -> NDArray[np.int64]:
        # The pair is read and replaced as one object: the loader's thread may do so concurrently.
        known, block = self._block
        if known != epoch * self.n + begin:
            places = np.arange(begin, min(begin + _BLOCK, self.n), dtype=np.int64)
            block = self._in_epoch(epoch, places)
            self._block = (epoch * self.n + begin, block)
        return block

    def _in_epoch(self, epoch: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.order == "permuted":
            return Permutation(self.n, seed=self.seed, epoch=epoch)(places)
        known, order = self._epoch
        if known != epoch:
            order = torch_order(self.n, seed=self.seed, epoch=epoch)
            self._epoch = (epoch, order)
        return order[places]


def torch_order(n: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order of torch's own DataLoader in an epoch after `torch.manual_seed(seed)`.

    Each epoch draws two numbers from the global random state: one for worker processes and one that
    seeds the epoch's permutation (torch/utils/data: `_BaseDataLoaderIter`, `RandomSampler`).
    """
    if seed >= 2**63:  # a text of a mixture has such a seed; torch accepts none above 2**63
        seed = int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:7], "big")
    state = torch.Generator().manual_seed(seed)
    draws = torch.empty(2 * epoch + 2, dtype=torch.int64)
    for i in range(len(draws)):
        draws[i] = torch.empty((), dtype=torch.int64).random_(generator=state)
    order = torch.Generator().manual_seed(int(draws[-1]))
    return torch.randperm(n, generator=order).numpy()
