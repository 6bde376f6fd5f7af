"""KV cache: with the keys and values of all layers stored, a new token costs one position."""

import torch
from torch import Tensor

from groundup.base.errors import UserError
from groundup.model.config import GPTConfig


class KVCache:
    """Keys and values of all layers for one full context, allocated once.

    It implements `groundup.model.attention.KeyValueCache`: each layer calls `append`, then the
    model calls `advance`.

    >>> cache = KVCache(GPTConfig(n_layers=1, d_model=8, n_heads=2, context_length=4))
    >>> keys, values = cache.append(0, torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4))
    >>> cache.advance(torch.tensor([[5, 6, 7]]))
    >>> keys.shape, cache.length, cache.ids.tolist()
    (torch.Size([1, 2, 3, 4]), 3, [[5, 6, 7]])
    """

    def __init__(
        self,
        config: GPTConfig,
        *,
        batch_size: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shape = (
            config.n_layers,
            batch_size,
            config.kv_heads,
            config.context_length,
            config.head_width,
        )
        self._keys = torch.zeros(shape, device=device, dtype=dtype)  # (L, B, G, S, D)
        self._values = torch.zeros(shape, device=device, dtype=dtype)
        self._ids = torch.zeros(batch_size, config.context_length, device=device, dtype=torch.long)
        self._length = 0

    @property
    def ids(self) -> Tensor:
        """Token ids (B, S) at the stored positions."""
        return self._ids[:, : self._length]

    @property
    def length(self) -> int:
        """Number of stored positions."""
        return self._length

    @property
    def n_bytes(self) -> int:
        """Memory of the keys and values, in bytes."""
        return 2 * self._keys.numel() * self._keys.element_size()

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values (B, G, T, D) of a layer; return views of all (B, G, S, D).

        Raises:
            UserError: The cache is full.
        """
        stop = self._length + keys.shape[2]
        if stop > self._keys.shape[3]:
            raise UserError(
                f"The cache has {self._keys.shape[3]} positions, and {stop} are required. Use a "
                "shorter text, or call reset() before the next token."
            )
        self._keys[layer, :, :, self._length : stop] = keys
        self._values[layer, :, :, self._length : stop] = values
        return self._keys[layer, :, :, :stop], self._values[layer, :, :, :stop]

    def advance(self, ids: Tensor) -> None:
        """Add the token ids (B, T) whose positions every layer has stored."""
        self._ids[:, self._length : self._length + ids.shape[1]] = ids
        self._length += ids.shape[1]

    def reset(self) -> None:
        """Remove all positions. The memory stays allocated."""
        self._length = 0
