"""Several texts by weight, one endless road: which text stands at position p is a fixed pattern.

The road is cut into blocks. Each text gets its quota of a block (largest remainder), spread evenly
over it, so the shares are right to within a window at every point, not only on average. Position p
costs O(1) and nothing is drawn: the i-th window of a text is the i-th whatever else is mixed in,
and each text has an epoch counter of its own.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from groundup.base.errors import UserError
from groundup.data.windows import Windows

_BLOCK = 10_000
"""Positions in a block: weights are honoured to a hundredth of a per cent."""


class Mixture:
    """Windows of several texts, taken by weight.

    Args:
        parts: The windows of each text; all of one width and one vocabulary.
        weights: How often each is taken, in any unit; None takes all texts alike.

    Raises:
        UserError: The parts do not fit together, or the weights are not positive numbers.

    >>> a, b = Windows(np.arange(9), 2), Windows(np.arange(9), 2)
    >>> mixture = Mixture([a, b], [3, 1])
    >>> source, position = mixture.locate(np.arange(8))
    >>> source.tolist(), position.tolist()
    ([0, 0, 0, 1, 0, 0, 0, 1], [0, 1, 2, 0, 3, 4, 5, 1])
    """

    def __init__(
        self, parts: Sequence[Windows], weights: Sequence[float | int] | None = None
    ) -> None:
        self.parts = list(parts)
        shares = np.ones(len(self.parts)) if weights is None else np.asarray(weights, dtype=float)
        if not self.parts or shares.shape != (len(self.parts),):
            raise UserError(
                f"{len(self.parts)} texts and {shares.size} weights", need="a weight for each text"
            )
        if not (np.isfinite(shares).all() and (shares > 0).all()):
            raise UserError(f"weights {shares.tolist()}", need="numbers above 0")
        widths = sorted({part.width for part in self.parts})
        if len(widths) > 1:
            raise UserError(
                f"windows of {' and '.join(map(str, widths))} tokens in one batch",
                need="one context length, and texts that are longer than it",
            )
        if any(part.documents != "stream" for part in self.parts):
            raise UserError(
                "a mixture of windows that know documents", need='windows with documents="stream"'
            )
        self.weights = shares / shares.sum()
        self._source, self._rank, self._quota = _pattern(self.weights)

    @property
    def width(self) -> int:
        """How many inputs a window has."""
        return self.parts[0].width

    def locate(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give, for places on the endless road, which text it is and the place in its own road."""
        block, place = np.divmod(positions, len(self._source))
        source = self._source[place]
        return source, block * self._quota[source] + self._rank[place]

    def taken(self, n_positions: int) -> NDArray[np.int64]:
        """Count the windows of each text among the first `n_positions`: the realised shares."""
        n_blocks, rest = divmod(n_positions, len(self._source))
        in_rest = np.bincount(self._source[:rest], minlength=len(self.parts))
        return n_blocks * self._quota + in_rest


def _pattern(
    weights: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Lay out one block: (text of each place, its rank among that text's places, quotas)."""
    ideal = weights * _BLOCK
    quota = np.maximum(np.floor(ideal).astype(np.int64), 0)
    short = _BLOCK - int(quota.sum())
    quota[np.argsort(quota - ideal, kind="stable")[:short]] += 1
    if (quota == 0).any():
        raise UserError(
            f"a weight of {weights.min():.2g} of the whole is too small to be taken evenly",
            need=f"at least {1 / _BLOCK:g} of the whole for each text",
        )
    n_common = np.gcd.reduce(quota)  # 3:1 is a block of 4, not of 10,000
    quota = quota // n_common
    # At every place, of the texts that are behind their share, the one that must come first: no
    # text is ever a whole window off its share (Tijdeman, 1980, "The chairman assignment problem").
    block = int(quota.sum())
    taken = np.zeros_like(quota)
    source = np.empty(block, dtype=np.int64)
    for place in range(block):
        behind = taken * block < quota * (place + 1)
        deadline = np.where(behind, -(-(taken + 1) * block // quota), 2 * block)
        source[place] = np.argmin(deadline)
        taken[source[place]] += 1
    rank = np.empty_like(source)
    for text, n in enumerate(quota.tolist()):
        rank[source == text] = np.arange(n)
    return source, rank, quota
