"""The loader: the k-th batch is a pure function of (seed, k), and the whole state is one integer.

Position p of the endless sequence of windows is in epoch p // n at place p % n, and each epoch has
its own order. Batches continue across the end of an epoch, so no window is dropped. Each of R ranks
reads its own contiguous part of every batch; neither the number of ranks nor micro-batches change
what a batch contains. Reading ahead changes nothing either: the position counts only the batches
that were returned.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from groundup.base.arguments import one_of
from groundup.base.errors import UserError
from groundup.data.batch import Batch, join, make_batch
from groundup.data.epochs import Epochs, Order
from groundup.data.mixture import Mixture
from groundup.data.windows import Windows

_TOKENS_AT_ONCE, _BATCHES_AT_ONCE = 2**17, 16
"""Small batches are read several at once, up to these limits: one indexing serves all of them."""


class Loader:
    """An endless iterator over batches of windows.

    A batch is (inputs, targets), int64, (B, T) each: two views of one buffer of B rows of T+1
    tokens; do not write into them. Windows over separate documents also set `positions`,
    `cu_seqlens` and `lengths`.

    Args:
        windows: The windows of one epoch, or a mixture of several texts.
        batch_size: B, number of windows per batch over all ranks.
        seed: Seed of the order.
        order: "permuted" (a new order in each epoch), "sequential", or "torch": the order of
            `create_dataloader_v1` after `torch.manual_seed(seed)`, which takes 8 bytes per window.
        rank: Index of this process, from 0; it reads its part of each batch.
        world_size: Number of processes that share each batch.
        n_ahead: Number of batches to read ahead in a background thread.
        device: Device of the batches. Copies to CUDA are asynchronous, from pinned memory. None
            leaves the batches in main memory.

    Raises:
        UserError: The batch size is below 1 or not divisible by the number of processes, the rank
            is out of range, or `order` is another name.

    >>> loader = Loader(Windows(np.arange(9), context_length=2), 3, order="sequential")
    >>> inputs, targets = next(loader)
    >>> inputs.tolist(), targets.tolist()
    ([[0, 1], [2, 3], [4, 5]], [[1, 2], [3, 4], [5, 6]])
    """

    def __init__(
        self,
        windows: Windows | Mixture,
        batch_size: int,
        *,
        seed: int = 0,
        order: Order = "permuted",
        rank: int = 0,
        world_size: int = 1,
        n_ahead: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        one_of("order", order, get_args(Order))
        if batch_size < 1:
            raise UserError(
                f"The batch size is {batch_size}. It must be at least 1.",
                settings={"batch_size": 8},
            )
        if not 0 <= rank < world_size:
            raise UserError(
                f"The rank is {rank} of {world_size} processes. Ranks count from 0 and are below "
                "the number of processes."
            )
        if batch_size % world_size:
            raise UserError(
                f"A batch of {batch_size} windows cannot be divided equally among {world_size} "
                "processes. A multiple of the number of processes is expected.",
                settings={"batch_size": world_size * -(-batch_size // world_size)},
            )
        self.rank, self.world_size = rank, world_size
        self.windows, self.batch_size, self.seed, self.order = windows, batch_size, seed, order
        self.device = None if device is None else torch.device(device)
        parts = windows.parts if isinstance(windows, Mixture) else [windows]
        # Each text of a mixture needs a seed of its own, beyond any seed that a user sets.
        self._epochs = [Epochs(len(w), seed + (i << 64), order) for i, w in enumerate(parts)]
        self._parts = parts
        self._next = 0
        n_tokens = batch_size // self.world_size * parts[0].width
        is_plain = len(parts) == 1 and parts[0].documents == "stream"
        at_once = min(_BATCHES_AT_ONCE, _TOKENS_AT_ONCE // n_tokens)
        self._n_at_once = max(1, at_once) if is_plain else 1
        self._at_once: tuple[int, list[Batch]] = (-1, [])
        self._n_ahead = n_ahead
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="loader") if n_ahead else None
        self._ahead: deque[tuple[int, Future[Batch]]] = deque()

    @property
    def n_batches_per_epoch(self) -> float:
        """Number of batches in one pass over the windows; in general not an integer.

        For a mixture: until the first of its texts has been read once.
        """
        if not isinstance(self.windows, Mixture):
            return len(self.windows) / self.batch_size
        sizes = zip(self.windows.parts, self.windows.weights.tolist(), strict=True)
        return float(min(len(part) / weight for part, weight in sizes) / self.batch_size)

    def indices(self, k: int) -> NDArray[np.int64]:
        """Return the window indices of this rank's part of the k-th batch, (B / R,)."""
        return self._locate(k)[1]

    def batch(self, k: int) -> Batch:
        """Return this rank's part of the k-th batch; the position does not change."""
        return self._hand_over(self._make(k))

    def __iter__(self) -> Iterator[Batch]:
        """Iterate from the current position, without end."""
        return self

    def __next__(self) -> Batch:
        """Return the next batch."""
        k = self._next
        self._next += 1
        if self._pool is None:
            return self._hand_over(self._read(k))
        # After a change of position, what was read ahead is not the next batch: discard it.
        while self._ahead and self._ahead[0][0] != k:
            self._ahead.popleft()[1].cancel()
        for later in range(k + len(self._ahead), k + self._n_ahead + 1):
            self._ahead.append((later, self._pool.submit(self._read, later)))
        return self._hand_over(self._ahead.popleft()[1].result())

    def close(self) -> None:
        """Stop the thread that reads ahead."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def __repr__(self) -> str:
        share = f", rank {self.rank} of {self.world_size}" if self.world_size > 1 else ""
        return f"Loader({self.windows!r}, batch_size={self.batch_size}, seed={self.seed}{share})"

    def state_dict(self) -> dict[str, Any]:
        """Return the position and what it refers to; it does not depend on the ranks."""
        return {"next_batch": self._next, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Move to a saved position.

        Raises:
            UserError: The state belongs to other windows, another order or batch size.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise UserError(
                    f"The saved position has {name} {state.get(name)!r}, but this loader has "
                    f"{value!r}. The same data and settings are expected."
                )
        if not isinstance(state.get("next_batch"), int) or state["next_batch"] < 0:
            raise UserError(
                f"The saved position is batch {state.get('next_batch')!r}. An integer of at least "
                "0 is expected."
            )
        self._next = state["next_batch"]

    def at(self, k: int) -> "Loader":
        """Move to batch k and return the loader itself."""
        self._next = k
        return self

    def _locate(self, k: int) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
        """Return (text, window) of each row of this rank's part. Text None: there is only one."""
        n_rows = self.batch_size // self.world_size
        first = k * self.batch_size + self.rank * n_rows
        if not isinstance(self.windows, Mixture):
            return None, self._epochs[0].windows(first, n_rows)
        source, position = self.windows.locate(np.arange(first, first + n_rows, dtype=np.int64))
        result = np.empty_like(position)
        for text in np.unique(source).tolist():
            here = source == text  # the positions of one text are consecutive
            begin = int(position[here][0])
            result[here] = self._epochs[text].windows(begin, int(here.sum()))
        return source, result

    def _read(self, k: int) -> Batch:
        """Return a batch; small ones are read together with their neighbors."""
        if self._n_at_once == 1:
            return self._make(k)
        group, place = divmod(k, self._n_at_once)
        if self._at_once[0] != group:
            first = group * self._n_at_once
            indices = [self.indices(j) for j in range(first, first + self._n_at_once)]
            inputs, targets = self._pin(make_batch(self._parts[0], np.concatenate(indices)))
            pairs = zip(inputs.chunk(len(indices)), targets.chunk(len(indices)), strict=True)
            self._at_once = (group, [Batch(pair) for pair in pairs])
        return self._at_once[1][place]

    def _make(self, k: int) -> Batch:
        """Read a batch into main memory, pinned if it goes to a GPU."""
        source, indices = self._locate(k)
        return self._pin(self._mix(source, indices))

    def _pin(self, batch: Batch) -> Batch:
        on_gpu = self.device is not None and self.device.type == "cuda"
        return batch.map(Tensor.pin_memory) if on_gpu else batch

    def _mix(self, source: NDArray[np.int64] | None, indices: NDArray[np.int64]) -> Batch:
        if source is None:
            return make_batch(self._parts[0], indices)
        found = [
            (np.flatnonzero(source == text), make_batch(self._parts[text], indices[source == text]))
            for text in np.unique(source).tolist()
        ]
        return join(found, self.windows.most_documents)

    def _hand_over(self, batch: Batch) -> Batch:
        if self.device is None or self.device.type == "cpu":
            return batch
        return batch.map(lambda part: part.to(self.device, non_blocking=True))

    def _identity(self) -> dict[str, Any]:
        table: dict[str, Any] = {
            "fingerprint": [part.tokens.fingerprint for part in self._parts],
            "n_windows": [len(part) for part in self._parts],
            "context_length": self._parts[0].context_length,
            "stride": [part.stride for part in self._parts],
            "coverage": [part.coverage for part in self._parts],
            "documents": [part.documents for part in self._parts],
        }
        if isinstance(self.windows, Mixture):
            table["weights"] = self.windows.weights.tolist()
        else:
            table = {k: v[0] if isinstance(v, list) else v for k, v in table.items()}
        table |= {"batch_size": self.batch_size, "seed": self.seed, "order": self.order}
        return table
