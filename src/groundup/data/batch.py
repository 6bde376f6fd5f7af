"""One batch: inputs and targets as tensors, and where documents begin in them."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from groundup.base.targets import IGNORE_INDEX
from groundup.data.show import batch_html
from groundup.data.windows import Windows


class Batch(tuple[Tensor, Tensor]):
    """(inputs, targets), int64, (B, T) each, one window per row.

    Windows over separate documents also set `positions`, `cu_seqlens` and `lengths`, as attention
    within documents needs them.
    """

    positions: Int[Tensor, "B T"] | None = None
    """Position of each token in its document's part of the window, from 0."""
    cu_seqlens: Int[Tensor, " P"] | None = None
    """Where each part begins in the flattened batch, and B*T at the end; int32."""
    lengths: Int[Tensor, "B D"] | None = None
    """Tokens of each document in a row; 0: none. Padding is left out. D is that of all batches."""

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Apply a function to all tensors."""
        result = Batch((change(self[0]), change(self[1])))
        for name in ("positions", "cu_seqlens", "lengths"):
            if (tensor := getattr(self, name)) is not None:
                setattr(result, name, change(tensor))
        return result

    def _repr_html_(self) -> str:
        return batch_html(self[0].tolist(), self[1].tolist())


def make_batch(windows: Windows, indices: NDArray[np.int64]) -> Batch:
    """Read the windows with these indices into one batch."""
    if windows.rows is not None:
        inputs, targets = map(torch.from_numpy, windows.gather(indices))
    else:
        # Inputs and targets are two views of one buffer, one column apart: converting T+1 columns
        # once costs half of converting T columns twice.
        both = torch.from_numpy(windows.gather_both(indices)).to(torch.int64)
        inputs, targets = both[:, :-1], both[:, 1:]
        ignored = windows.ignored(indices)
        if ignored is not None:
            # Not in place: the inputs share the buffer.
            targets = targets.masked_fill(torch.from_numpy(ignored), IGNORE_INDEX)
    batch = Batch((inputs, targets))
    if windows.documents != "stream":
        found = windows.boundaries(indices)
        batch.positions = torch.from_numpy(found.positions)
        batch.cu_seqlens = torch.from_numpy(found.cu_seqlens)
        batch.lengths = torch.from_numpy(windows.document_lengths(indices))
    return batch


def join(parts: Sequence[tuple[NDArray[np.int64], Batch]], n_columns: int) -> Batch:
    """Join the rows of several texts into one batch.

    Args:
        parts: For each text the places of its rows, and the rows.
        n_columns: D, the number of columns of the lengths.
    """
    n_rows, width = sum(len(places) for places, _ in parts), parts[0][1][0].shape[1]
    inputs, targets, positions = torch.empty((3, n_rows, width), dtype=torch.int64)
    lengths = torch.zeros((n_rows, n_columns), dtype=torch.int64)
    batch = Batch((inputs, targets))
    for places, rows in parts:
        here = torch.from_numpy(places)
        inputs[here], targets[here] = rows
        if rows.positions is not None and rows.lengths is not None:
            positions[here] = rows.positions
            lengths[here, : rows.lengths.shape[1]] = rows.lengths
            batch.positions, batch.lengths = positions, lengths
    if batch.positions is not None:
        first = (positions.flatten() == 0).nonzero().squeeze(1)
        batch.cu_seqlens = F.pad(first, (0, 1), value=n_rows * width).to(torch.int32)
    return batch
