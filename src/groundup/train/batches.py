"""The batches of a pretraining run, as its loss takes them."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from groundup.base.malloc import GrowthReturner
from groundup.data.batch import Batch
from groundup.data.loader import Loader


class DocumentBatches:
    """The batches of a loader whose windows hold separate documents.

    A batch is (inputs, targets, lengths), as `GPT.loss` takes them. Row k of each belongs to
    window k, so that gradient accumulation can split a batch.

    Args:
        loader: Reads the windows; its position is that of this iterator.
        device: Where the model is.
    """

    def __init__(self, loader: Loader, device: torch.device) -> None:
        self.loader, self.device = loader, device
        self._growth = GrowthReturner()

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Iterate from the current position, without end."""
        return self

    def __next__(self) -> tuple[Tensor, ...]:
        """Return the next batch."""
        # The shapes of attention depend on the documents, which fragments the memory.
        self._growth.step(self.device)
        return for_loss(next(self.loader))

    def state_dict(self) -> dict[str, Any]:
        """Return the position."""
        return self.loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Move to a saved position.

        Raises:
            UserError: The state belongs to other windows, another order or batch size.
        """
        self.loader.load_state_dict(state)


def for_loss(batch: Batch) -> tuple[Tensor, ...]:
    """Return the tensors of a batch that the loss takes."""
    return batch if batch.lengths is None else (*batch, batch.lengths)
