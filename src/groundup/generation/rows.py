"""The KV cache of one text: its keys and values per layer, with memory for what is asked."""

from collections.abc import Sequence

import torch
from torch import Tensor

from groundup.base.errors import UserError
from groundup.model.config import GPTConfig

BLOCK = 128
"""Memory of a row grows by this number of positions at least."""


class Row:
    """The stored positions of one text. A decoder makes it with `new_row` and appends to it."""

    def __init__(
        self,
        config: GPTConfig,
        *,
        n_positions: int | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.ids: list[int] = []
        """Token ids at the stored positions."""
        self._context_length = config.context_length
        self._shape = (config.kv_heads, config.head_width)
        self._options = {"device": device, "dtype": dtype}
        self._capacity = 0
        self._keys = [self._empty(0) for _ in range(config.n_layers)]  # (G, S, D) each
        self._values = [self._empty(0) for _ in range(config.n_layers)]
        if n_positions is not None:
            self.reserve(min(n_positions, config.context_length))

    @property
    def length(self) -> int:
        """Number of stored positions."""
        return len(self.ids)

    @property
    def n_bytes(self) -> int:
        """Memory of the keys and values, in bytes."""
        return sum(x.numel() * x.element_size() for x in (*self._keys, *self._values))

    def truncate(self, length: int) -> None:
        """Remove the positions from `length` on, for example those of rejected draft tokens.

        Raises:
            UserError: The row has fewer positions.
        """
        if not 0 <= length <= self.length:
            raise UserError(
                f"The row has {self.length} positions and cannot keep {length} of them."
            )
        del self.ids[length:]

    def reserve(self, n_positions: int) -> None:
        """Make room for this number of positions.

        Raises:
            UserError: They do not fit in the context of the model.
        """
        if n_positions > self._context_length:
            raise UserError(
                f"{n_positions} tokens do not fit in the model's context of "
                f"{self._context_length}. Use a shorter text, or a model with a longer "
                "context_length."
            )
        if n_positions <= self._capacity:
            return
        wanted = max(n_positions, self._capacity + BLOCK) if self._capacity else n_positions
        self._capacity = min(-(-wanted // BLOCK) * BLOCK, self._context_length)
        # One layer at a time: the peak is one layer above the result.
        for tensors in (self._keys, self._values):
            for layer, old in enumerate(tensors):
                tensors[layer] = self._empty(self._capacity)
                tensors[layer][:, : self.length] = old[:, : self.length]

    def store(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values (G, T, D) after the stored positions; return all (G, S, D)."""
        stop = self.length + keys.shape[1]
        self._keys[layer][:, self.length : stop] = keys
        self._values[layer][:, self.length : stop] = values
        return self._keys[layer][:, :stop], self._values[layer][:, :stop]

    def advance(self, ids: Sequence[int]) -> None:
        """Add the ids whose keys and values every layer has stored."""
        self.ids.extend(ids)

    def _empty(self, n_positions: int) -> Tensor:
        n_groups, width = self._shape
        return torch.zeros(n_groups, n_positions, width, **self._options)  # type: ignore[arg-type]
