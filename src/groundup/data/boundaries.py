"""Where documents begin inside a batch: what attention and positions need to stay within one.

A batch of B rows of T tokens is seen as one flat row of B*T, as variable-length attention kernels
want it. Everything comes from the store's document table, never from looking for an end-of-text id:
a text may hold such an id without ending there.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Boundaries(NamedTuple):
    """The documents of a batch.

    >>> document_boundaries(np.array([0, 3, 5]), starts=np.array([1, 4]), width=4)
    Boundaries(positions=array([[0, 1, 0, 1],
           [0, 0, 1, 2]]), cu_seqlens=array([0, 2, 4, 5, 8], dtype=int32))
    """

    positions: NDArray[np.int64]
    """(B, T): the place of each token in its document's part of the window, from 0."""
    cu_seqlens: NDArray[np.int32]
    """(n_parts + 1,): where each part begins in the flat batch, and B*T at the end."""


def document_boundaries(
    document_starts: NDArray[np.int64], starts: NDArray[np.int64], width: int
) -> Boundaries:
    """Find the documents in rows of `width` tokens that begin at `starts`.

    Costs O(B (log n_documents + T)) time, whatever the corpus.
    """
    rows, offsets = starts_inside(document_starts, starts, width)
    first_of_rows = np.arange(len(starts), dtype=np.int64) * width
    cuts = np.union1d(first_of_rows, rows * width + offsets)
    return from_cuts(cuts, len(starts), width)


def from_cuts(cuts: NDArray[np.int64], n_rows: int, width: int) -> Boundaries:
    """Make the boundaries from the flat places where parts begin: ascending, the first one 0."""
    lengths = np.diff(np.append(cuts, n_rows * width))
    positions = np.arange(n_rows * width, dtype=np.int64) - np.repeat(cuts, lengths)
    cu_seqlens = np.append(cuts, n_rows * width).astype(np.int32)
    return Boundaries(positions.reshape(n_rows, width), cu_seqlens)


def starts_inside(
    document_starts: NDArray[np.int64], starts: NDArray[np.int64], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give (rows, offsets) of the documents that begin within 1 .. width-1 tokens after a start."""
    first = np.searchsorted(document_starts, starts, side="right")
    beyond = np.searchsorted(document_starts, starts + width, side="left")
    counts = np.maximum(beyond - first, 0)
    rows = np.repeat(np.arange(len(starts)), counts)
    nth_in_row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    which = np.repeat(first, counts) + nth_in_row
    return rows, document_starts[which] - starts[rows]
