"""The indexing behind every batch: copy several rows of equal length out of a long array."""

import numpy as np
from numpy.typing import NDArray


def gather_rows(
    array: NDArray[np.integer], starts: NDArray[np.int64], width: int
) -> NDArray[np.integer]:
    """Copy the `width` items that follow each start, (B, width); all must be inside the array.

    NumPy sees every row as one opaque element that overlaps the next, so a row costs one copy and
    no loop over its items: two to three times as fast as indexing a sliding view.
    """
    if not len(starts):
        return np.empty((0, width), dtype=array.dtype)
    array = np.ascontiguousarray(array)
    row = np.dtype((np.void, width * array.itemsize))
    rows = np.ndarray((len(array) - width + 1,), row, array, strides=array.strides)
    return rows[starts].view(array.dtype).reshape(len(starts), width)
