"""The loader: the k-th batch is a pure function of (seed, k), its whole state one integer.

Position p of the endless road lies in epoch p // n at place p % n, and each epoch has an order of
its own. Batches run on across the end of an epoch, so nothing is dropped.
"""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from groundup.base.errors import UserError
from groundup.data.order import Permutation
from groundup.data.windows import Windows

Order = Literal["permuted", "sequential"]


class Loader:
    """An endless iterator over batches of windows.

    Args:
        windows: The windows of one epoch.
        batch_size: B, windows per batch.
        seed: What the order is keyed with.
        order: "permuted" (another order each epoch) or "sequential".

    Raises:
        UserError: The batch size is below one.

    >>> loader = Loader(Windows(np.arange(9), context_length=2), 3, order="sequential")
    >>> inputs, targets = next(loader)
    >>> inputs.tolist(), targets.tolist()
    ([[0, 1], [2, 3], [4, 5]], [[1, 2], [3, 4], [5, 6]])
    """

    def __init__(
        self, windows: Windows, batch_size: int, *, seed: int = 0, order: Order = "permuted"
    ) -> None:
        if batch_size < 1:
            raise UserError(
                f"a batch size of {batch_size}", need="one or more", type_this="--batch-size 8"
            )
        self.windows, self.batch_size, self.seed, self.order = windows, batch_size, seed, order
        self._next = 0

    @property
    def n_batches_per_epoch(self) -> float:
        """How many batches one pass over the windows takes; rarely a whole number."""
        return len(self.windows) / self.batch_size

    def indices(self, k: int) -> NDArray[np.int64]:
        """Name the windows of the k-th batch, (B,)."""
        n = len(self.windows)
        positions = np.arange(k * self.batch_size, (k + 1) * self.batch_size, dtype=np.int64)
        epochs, places = np.divmod(positions, n)
        if self.order == "sequential":
            return places
        # A batch touches one epoch, two at its edge, more only when it is longer than an epoch.
        result = np.empty_like(places)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            result[here] = Permutation(n, seed=self.seed, epoch=epoch)(places[here])
        return result

    def batch(self, k: int) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
        """Give the inputs and targets of the k-th batch, int64, whatever was asked before."""
        inputs, targets = self.windows.gather(self.indices(k))
        return torch.from_numpy(inputs), torch.from_numpy(targets)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Go on from the present position, without end."""
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        """Give the next batch."""
        batch = self.batch(self._next)
        self._next += 1
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Tell the position, and what it is a position in."""
        return {"next_batch": self._next, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position.

        Raises:
            UserError: The state belongs to other windows, another order or batch size.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise UserError(
                    f"the saved position has {name} {state.get(name)!r}, this loader {value!r}",
                    need="the same data and settings to go on exactly",
                )
        if not isinstance(state.get("next_batch"), int) or state["next_batch"] < 0:
            raise UserError(
                f"the saved position is batch {state.get('next_batch')!r}", need="a number from 0"
            )
        self._next = state["next_batch"]

    def at(self, k: int) -> "Loader":
        """Move to batch k; give the loader itself."""
        self._next = k
        return self

    def _identity(self) -> dict[str, Any]:
        return {
            "fingerprint": self.windows.tokens.fingerprint,
            "n_windows": len(self.windows),
            "context_length": self.windows.context_length,
            "stride": self.windows.stride,
            "coverage": self.windows.coverage,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "order": self.order,
        }
