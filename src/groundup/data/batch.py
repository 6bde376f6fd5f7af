"""One batch: inputs and targets as tensors, and where documents begin in them."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from groundup.base.targets import IGNORE_INDEX
from groundup.data.show import batch_html
from groundup.data.windows import Windows


class Batch(tuple[Tensor, Tensor]):
    """(inputs, targets), int64, (B, T) each, one window per row.

    Windows over separate documents also set `positions` and `cu_seqlens`, as attention within
    documents needs them.
    """

    positions: Int[Tensor, "B T"] | None = None
    """Position of each token in its document's part of the window, from 0."""
    cu_seqlens: Int[Tensor, " P"] | None = None
    """Where each part begins in the flattened batch, and B*T at the end; int32."""

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Apply a function to all tensors."""
        result = Batch((change(self[0]), change(self[1])))
        if self.positions is not None and self.cu_seqlens is not None:
            result.positions = change(self.positions)
            result.cu_seqlens = change(self.cu_seqlens)
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
    return batch
