"""The batches of a fine-tuning run, one after the other, from a position that can be saved."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from groundup.base.errors import UserError
from groundup.base.malloc import GrowthReturner
from groundup.train.loop import to_device


@runtime_checkable
class Batches(Protocol):
    """The batches of a run, in an order that depends on nothing but their numbers."""

    def batch(self, k: int) -> tuple[Tensor, ...]:
        """Return batch k, counted from 0.

        The first dimension of every tensor is that of the rows, so that gradient accumulation can
        split a batch. It must be the same whenever it is called, because a resumed run calls it
        again.
        """
        ...


class BatchStream:
    """An endless iterator over batches, on the device of the model.

    Args:
        batches: Makes batch k.
        device: Where the batches are used. A GPU gets them from pinned memory.
        before_step: Called with k before batch k is made.
    """

    def __init__(
        self,
        batches: Batches,
        device: torch.device,
        before_step: Callable[[int], None] | None = None,
    ) -> None:
        self.batches, self.device, self.before_step = batches, device, before_step
        self._next = 0
        self._growth = GrowthReturner()

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Iterate from the current position, without end."""
        return self

    def __next__(self) -> tuple[Tensor, ...]:
        """Return the next batch."""
        k, self._next = self._next, self._next + 1
        self._growth.step(self.device)
        if self.before_step is not None:
            self.before_step(k)
        return self.batch(k)

    def batch(self, k: int) -> tuple[Tensor, ...]:
        """Return batch k; the position does not change."""
        return tuple(to_device(tensor, self.device) for tensor in self.batches.batch(k))

    def state_dict(self) -> dict[str, Any]:
        """Return the position."""
        return {"next_batch": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Move to a saved position.

        Raises:
            UserError: The position is not a number of a batch.
        """
        if not isinstance(state.get("next_batch"), int) or state["next_batch"] < 0:
            raise UserError(
                f"The saved position is batch {state.get('next_batch')!r}. An integer of at least "
                "0 is expected."
            )
        self._next = state["next_batch"]
