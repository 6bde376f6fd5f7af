"""KV cache: with the keys and values of all layers stored, a new token costs one position."""

import torch
from torch import Tensor

from groundup.base.errors import UserError
from groundup.model.config import GPTConfig
from groundup.model.state import LayerState

_LEAST = 64
"""Positions for which a layer allocates memory at first."""


class KVCache:
    """What each layer stores of a text; the memory grows with the text.

    Full attention stores the keys and values of all positions, in memory that grows by half.
    Attention in a window stores those of up to two windows: when they are full, the last ones move
    to the beginning. A gated delta rule stores its state.

    It implements `groundup.model.multi_head.KeyValueCache`: each layer calls `append` or sets its
    state, then the model calls `advance`.

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
        self.states: dict[int, LayerState] = {}
        self._config = config
        empty = torch.empty(batch_size, config.kv_heads, 0, config.head_width)
        self._layers = [_Stored(empty.to(device, dtype)) for _ in range(config.n_layers)]
        self._ids = torch.empty(batch_size, 0, dtype=torch.long, device=device)
        self._length = 0

    @property
    def ids(self) -> Tensor:
        """Token ids (B, S) at the positions so far."""
        return self._ids[:, : self._length]

    @property
    def length(self) -> int:
        """Number of positions so far."""
        return self._length

    @property
    def n_bytes(self) -> int:
        """Memory of the keys, values and states, in bytes."""
        stored = [x for layer in self._layers for x in (layer.keys, layer.values)]
        stored += [x for state in self.states.values() for x in state]
        return sum(x.numel() * x.element_size() for x in stored)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values (B, G, T, D) of a layer; return views of all (B, G, S, D).

        Of a layer with a window, positions that no query sees are missing.

        Raises:
            UserError: They do not fit in the context.
        """
        T = self._config.context_length
        if self._length + keys.shape[2] > T:
            raise UserError(
                f"The cache has {T} positions, and {self._length + keys.shape[2]} are required. "
                "Use a shorter text, or call reset() before the next token."
            )
        return self._layers[layer].append(keys, values, self._config.window_of(layer), T)

    def advance(self, ids: Tensor) -> None:
        """Add the token ids (B, T) whose positions every layer has stored."""
        stop = self._length + ids.shape[1]
        if stop > self._ids.shape[1]:
            self._ids = _grown(self._ids, self._length, stop + stop // 2, 1)
        self._ids[:, self._length : stop] = ids
        self._length = stop

    def reset(self) -> None:
        """Remove all positions. The memory stays allocated."""
        self._length = 0
        self.states.clear()
        for layer in self._layers:
            layer.n_stored = 0


class _Stored:
    """Keys and values of one layer: the last `n_stored` positions."""

    def __init__(self, empty: Tensor) -> None:
        self.keys, self.values = empty, empty  # (B, G, capacity, D) each
        self.n_stored = 0

    def append(
        self, keys: Tensor, values: Tensor, window: int | None, most: int
    ) -> tuple[Tensor, Tensor]:
        n_new, capacity = keys.shape[2], self.keys.shape[2]
        n_kept = self.n_stored if window is None else min(self.n_stored, window - 1)
        if self.n_stored + n_new > capacity:
            # Twice the window, so that the last positions move once in a window of new ones.
            wanted = n_kept + n_new + (max(n_kept, _LEAST) // 2 if window is None else window)
            enough = max(capacity, min(wanted, most))
            first = self.n_stored - n_kept
            self.keys, self.values = (
                _grown(x[:, :, first:], n_kept, enough, 2) for x in (self.keys, self.values)
            )
            self.n_stored = n_kept
        stop = self.n_stored + n_new
        self.keys[:, :, self.n_stored : stop] = keys
        self.values[:, :, self.n_stored : stop] = values
        self.n_stored = stop
        return self.keys[:, :, :stop], self.values[:, :, :stop]


def _grown(x: Tensor, n_used: int, n_positions: int, dim: int) -> Tensor:
    """Copy the first positions of a tensor to a larger one."""
    shape = list(x.shape)
    shape[dim] = n_positions
    new = torch.zeros(shape, device=x.device, dtype=x.dtype)
    new.narrow(dim, 0, n_used).copy_(x.narrow(dim, 0, n_used))
    return new
