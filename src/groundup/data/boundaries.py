"""Document boundaries inside a batch: what attention and positions within documents need.

A batch of B rows of T tokens is treated as one flat row of B*T, the layout of variable-length
attention kernels. Boundaries come from the store's document table, never from end-of-text ids: a
text can contain such an id without ending there.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_BLOCK = 2**20
"""Documents that are looked at together, for bounded memory."""


class Boundaries(NamedTuple):
    """Document boundaries of a batch.

    >>> document_boundaries(np.array([0, 3, 5]), starts=np.array([1, 4]), width=4)
    Boundaries(positions=array([[0, 1, 0, 1],
           [0, 0, 1, 2]]), cu_seqlens=array([0, 2, 4, 5, 8], dtype=int32))
    """

    positions: NDArray[np.int64]
    """(B, T): position of each token in its document's part of the window, from 0."""
    cu_seqlens: NDArray[np.int32]
    """(n_parts + 1,): where each part begins in the flattened batch, and B*T at the end."""


def document_boundaries(
    document_starts: NDArray[np.int64], starts: NDArray[np.int64], width: int
) -> Boundaries:
    """Return the document boundaries in rows of `width` tokens that begin at `starts`.

    Takes O(B (log n_documents + T)) time.
    """
    rows, offsets = starts_inside(document_starts, starts, width)
    first_of_rows = np.arange(len(starts), dtype=np.int64) * width
    cuts = np.union1d(first_of_rows, rows * width + offsets)
    return from_cuts(cuts, len(starts), width)


def from_cuts(cuts: NDArray[np.int64], n_rows: int, width: int) -> Boundaries:
    """Build boundaries from the flat positions where parts begin: ascending, the first is 0."""
    lengths = np.diff(np.append(cuts, n_rows * width))
    positions = np.arange(n_rows * width, dtype=np.int64) - np.repeat(cuts, lengths)
    cu_seqlens = np.append(cuts, n_rows * width).astype(np.int32)
    return Boundaries(positions.reshape(n_rows, width), cu_seqlens)


def part_lengths(
    document_starts: NDArray[np.int64], starts: NDArray[np.int64], width: int, n_columns: int
) -> NDArray[np.int64]:
    """Return the number of tokens of each part of rows of `width` tokens, (B, n_columns).

    >>> part_lengths(np.array([0, 3, 5]), np.array([1, 4]), width=4, n_columns=3).tolist()
    [[2, 2, 0], [1, 3, 0]]
    """
    rows, offsets = starts_inside(document_starts, starts, width)
    first_of_rows = np.arange(len(starts), dtype=np.int64) * width
    cuts = np.union1d(first_of_rows, rows * width + offsets)
    row_of = cuts // width
    nth_in_row = np.arange(len(cuts)) - np.searchsorted(cuts, first_of_rows)[row_of]
    result = np.zeros((len(starts), n_columns), dtype=np.int64)
    result[row_of, nth_in_row] = np.diff(np.append(cuts, len(starts) * width))
    return result


def most_parts(document_starts: NDArray[np.int64], width: int) -> int:
    """Return the largest number of parts that any row of `width` tokens can have.

    >>> most_parts(np.array([0, 3, 5, 9]), width=4)
    3
    """
    most = 0
    for begin in range(0, len(document_starts), _BLOCK):
        some = np.asarray(document_starts[begin : begin + _BLOCK])
        beyond = np.searchsorted(document_starts, some + width - 1, side="left")
        most = max(most, int((beyond - np.arange(begin, begin + len(some))).max()))
    return most + 1


def starts_inside(
    document_starts: NDArray[np.int64], starts: NDArray[np.int64], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (rows, offsets) of documents that begin 1 to width-1 tokens after a row's start."""
    first = np.searchsorted(document_starts, starts, side="right")
    beyond = np.searchsorted(document_starts, starts + width, side="left")
    counts = np.maximum(beyond - first, 0)
    rows = np.repeat(np.arange(len(starts)), counts)
    nth_in_row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    which = np.repeat(first, counts) + nth_in_row
    return rows, document_starts[which] - starts[rows]
