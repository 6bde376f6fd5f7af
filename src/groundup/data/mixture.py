"""A weighted mixture of texts as one endless sequence: a fixed pattern says which text is next.

The sequence is divided into blocks. Each text gets its quota of a block (largest remainder), spread
evenly over the block, so the weights hold to within one window at every position, not only on
average. Locating position p costs O(1) and draws no random number: the i-th window of a text is the
same whatever it is mixed with, and each text counts its own epochs.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from groundup.base.errors import UserError
from groundup.data.windows import Windows

_BLOCK = 10_000
"""Number of positions in a block: weights are exact to 0.01 percent."""


class Mixture:
    """Windows of several texts, sampled by weight.

    Args:
        parts: Windows of each text; all must have the same width and vocabulary.
        weights: Relative frequency of each text, in any unit. None uses equal weights.

    Raises:
        UserError: The widths differ, or the weights are not positive numbers.

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
                f"There are {len(self.parts)} texts and {shares.size} weights. "
                "One weight for each text is expected."
            )
        if not (np.isfinite(shares).all() and (shares > 0).all()):
            raise UserError(f"The weights are {shares.tolist()}. Numbers above 0 are expected.")
        widths = sorted({part.width for part in self.parts})
        if len(widths) > 1:
            raise UserError(
                f"The mixture has windows of {' and '.join(map(str, widths))} tokens. All texts "
                "must have one context length and be longer than it.",
            )
        modes = sorted({part.documents for part in self.parts})
        if len(modes) > 1:
            raise UserError(
                f"The mixture has windows with documents {' and '.join(modes)}. The same for all "
                "texts is expected."
            )
        self.weights = shares / shares.sum()
        self._source, self._rank, self._quota = _pattern(self.weights)

    def locate(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the text at each position, and the position within that text's own sequence."""
        block, place = np.divmod(positions, len(self._source))
        source = self._source[place]
        return source, block * self._quota[source] + self._rank[place]

    @property
    def most_documents(self) -> int:
        """Largest number of documents that a window can hold."""
        return max(part.most_documents for part in self.parts)

    def taken(self, n_positions: int) -> NDArray[np.int64]:
        """Return the number of windows of each text among the first `n_positions`."""
        n_blocks, rest = divmod(n_positions, len(self._source))
        in_rest = np.bincount(self._source[:rest], minlength=len(self.parts))
        return n_blocks * self._quota + in_rest


def _pattern(
    weights: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Build one block: (text of each position, its index among that text's positions, quotas)."""
    ideal = weights * _BLOCK
    quota = np.maximum(np.floor(ideal).astype(np.int64), 0)
    short = _BLOCK - int(quota.sum())
    quota[np.argsort(quota - ideal, kind="stable")[:short]] += 1
    if (quota == 0).any():
        raise UserError(
            f"The smallest weight is {weights.min():.2g} of the sum, which is too small. At least "
            f"{1 / _BLOCK:g} of the sum is expected for each text."
        )
    n_common = np.gcd.reduce(quota)  # weights 3:1 need a block of 4, not of 10,000
    quota = quota // n_common
    # At every position choose, among the texts that are behind their share, the one with the
    # earliest deadline: no text is ever a full window off its share (Tijdeman, 1980, "The chairman
    # assignment problem").
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
