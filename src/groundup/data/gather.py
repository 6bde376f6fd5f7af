"""The one indexing behind every batch: several rows of one length out of a long array."""

import numpy as np
from numpy.typing import NDArray


def gather_rows(
    array: NDArray[np.integer], starts: NDArray[np.int64], width: int
) -> NDArray[np.integer]:
    """Copy `width` items from each start on, (B, width); all must lie inside the array.

    Every row is one opaque element to NumPy, overlapping with the next, so that a row costs one
    copy and no loop over its items: two to three times as fast as indexing a sliding view.
    """
    if not len(starts):
        return np.empty((0, width), dtype=array.dtype)
    array = np.ascontiguousarray(array)
    row = np.dtype((np.void, width * array.itemsize))
    rows = np.ndarray((len(array) - width + 1,), row, array, strides=array.strides)
    return rows[starts].view(array.dtype).reshape(len(starts), width)
