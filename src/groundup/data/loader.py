"""The loader: the k-th batch is a pure function of (seed, k), its whole state one integer.

Position p of the endless road lies in epoch p // n at place p % n, and each epoch has an order of
its own. Batches run on across the end of an epoch, so nothing is dropped. Of R ranks each takes its
stretch of every batch: how many there are, and how a rank cuts its stretch into micro-batches,
changes nothing in the batch. So does reading ahead: what was not handed out was never taken.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from groundup.base.errors import UserError
from groundup.data.mixture import Mixture
from groundup.data.order import Permutation, torch_order
from groundup.data.show import batch_html
from groundup.data.windows import IGNORED, Windows

Order = Literal["permuted", "sequential", "torch"]

_BLOCK = 2**16
_TOKENS_AT_ONCE, _BATCHES_AT_ONCE = 2**17, 16
"""Small batches are made several at once, up to so many."""


class Batch(tuple[Tensor, Tensor]):
    """(inputs, targets), int64, (B, T) each: windows one below the other.

    Windows that know documents also tell where these begin, as isolated attention wants it.
    """

    positions: Int[Tensor, "B T"] | None = None
    """The place of each token in its document's part of the window, from 0."""
    cu_seqlens: Int[Tensor, " P"] | None = None
    """Where each part begins in the flat batch, and B*T at the end; int32."""

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Change all tensors alike."""
        result = Batch((change(self[0]), change(self[1])))
        if self.positions is not None and self.cu_seqlens is not None:
            result.positions = change(self.positions)
            result.cu_seqlens = change(self.cu_seqlens)
        return result

    def _repr_html_(self) -> str:
        return batch_html(self[0].tolist(), self[1].tolist())


class Loader:
    """An endless iterator over batches of windows.

    A batch is (inputs, targets), int64, (B, T) each: two views of one buffer of B rows of T+1
    tokens, not to be written into. Windows that know documents also give `positions` and
    `cu_seqlens`.

    Args:
        windows: The windows of one epoch, or a mixture of several texts'.
        batch_size: B, windows per batch over all ranks.
        seed: What the order is keyed with.
        order: "permuted" (another order each epoch), "sequential", or "torch": the order that
            `create_dataloader_v1` gives after `torch.manual_seed(seed)`; it keeps 8 bytes a window.
        rank: Which stretch of each batch is ours; None takes torchrun's RANK, 0 without it.
        world_size: Among how many; None takes torchrun's WORLD_SIZE, 1 without it.
        n_ahead: Batches made ahead of time in a thread of their own.
        device: Where batches are wanted; to CUDA they go from pinned memory, without waiting.

    Raises:
        UserError: The batch size is below one, or the ranks do not divide it.

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
        rank: int | None = None,
        world_size: int | None = None,
        n_ahead: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        self.rank = int(os.environ.get("RANK", 0)) if rank is None else rank
        self.world_size = int(os.environ.get("WORLD_SIZE", 1)) if world_size is None else world_size
        if batch_size < 1:
            raise UserError(
                f"a batch size of {batch_size}", need="one or more", type_this="--batch-size 8"
            )
        if not 0 <= self.rank < self.world_size or batch_size % self.world_size:
            raise UserError(
                f"rank {self.rank} of {self.world_size} and a batch of {batch_size}",
                need="a batch that the ranks divide",
                type_this=f"--batch-size {self.world_size * -(-batch_size // self.world_size)}",
            )
        self.windows, self.batch_size, self.seed, self.order = windows, batch_size, seed, order
        self.device = None if device is None else torch.device(device)
        parts = windows.parts if isinstance(windows, Mixture) else [windows]
        # Other texts of a mixture have keys of their own, far from any seed a person types.
        self._roads = [_Road(len(w), seed + (i << 64), order) for i, w in enumerate(parts)]
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
        """How many batches one pass over the windows takes; rarely a whole number.

        Of a mixture: until the text that is through first has been seen once.
        """
        if not isinstance(self.windows, Mixture):
            return len(self.windows) / self.batch_size
        sizes = zip(self.windows.parts, self.windows.weights.tolist(), strict=True)
        return float(min(len(part) / weight for part, weight in sizes) / self.batch_size)

    def indices(self, k: int) -> NDArray[np.int64]:
        """Name the windows of our stretch of the k-th batch, (B / R,)."""
        return self._locate(k)[1]

    def batch(self, k: int) -> Batch:
        """Give our stretch of the k-th batch, whatever was asked before."""
        return self._hand_over(self._make(k))

    def __iter__(self) -> Iterator[Batch]:
        """Go on from the present position, without end."""
        return self

    def __next__(self) -> Batch:
        """Give the next batch."""
        k = self._next
        self._next += 1
        if self._pool is None:
            return self._hand_over(self._read(k))
        while self._ahead and self._ahead[0][0] != k:
            self._ahead.popleft()[1].cancel()
        for later in range(k + len(self._ahead), k + self._n_ahead + 1):
            self._ahead.append((later, self._pool.submit(self._read, later)))
        return self._hand_over(self._ahead.popleft()[1].result())

    def close(self) -> None:
        """End the thread that reads ahead."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def state_dict(self) -> dict[str, Any]:
        """Tell the position, and what it is a position in; ranks do not matter."""
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

    def _locate(self, k: int) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
        """Give (text, window) of each row of our stretch; the text is None if there is but one."""
        n_rows = self.batch_size // self.world_size
        first = k * self.batch_size + self.rank * n_rows
        if not isinstance(self.windows, Mixture):
            return None, self._roads[0].windows(first, n_rows)
        source, position = self.windows.locate(np.arange(first, first + n_rows, dtype=np.int64))
        result = np.empty_like(position)
        for text in np.unique(source).tolist():
            here = source == text  # positions of one text follow one another
            begin = int(position[here][0])
            result[here] = self._roads[text].windows(begin, int(here.sum()))
        return source, result

    def _read(self, k: int) -> Batch:
        """Make a batch as one of several that follow one another."""
        if self._n_at_once == 1:
            return self._make(k)
        group, place = divmod(k, self._n_at_once)
        if self._at_once[0] != group:
            first = group * self._n_at_once
            indices = [self.indices(j) for j in range(first, first + self._n_at_once)]
            inputs, targets = self._pin(_lay_out(self._parts[0], np.concatenate(indices)))
            pairs = zip(inputs.chunk(len(indices)), targets.chunk(len(indices)), strict=True)
            self._at_once = (group, [Batch(pair) for pair in pairs])
        return self._at_once[1][place]

    def _make(self, k: int) -> Batch:
        """Make a batch in this machine's memory, pinned if it goes to a GPU."""
        source, indices = self._locate(k)
        return self._pin(self._mix(source, indices))

    def _pin(self, batch: Batch) -> Batch:
        on_gpu = self.device is not None and self.device.type == "cuda"
        return batch.map(Tensor.pin_memory) if on_gpu else batch

    def _mix(self, source: NDArray[np.int64] | None, indices: NDArray[np.int64]) -> Batch:
        if source is None:
            return _lay_out(self._parts[0], indices)
        n_rows, width = len(indices), self._parts[0].width
        both = torch.empty((2, n_rows, width), dtype=torch.int64)
        for text in np.unique(source).tolist():
            here = torch.from_numpy(np.flatnonzero(source == text))
            inputs, targets = _lay_out(self._parts[text], indices[source == text])
            both[0, here], both[1, here] = inputs, targets
        return Batch((both[0], both[1]))

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


class _Road:
    """One text's windows, epoch after epoch, each in an order of its own.

    The order is evaluated for up to 65,536 places at once; nothing larger is kept.
    """

    def __init__(self, n: int, seed: int, order: Order) -> None:
        self.n, self.seed, self.order = n, seed, order
        nothing = np.empty(0, dtype=np.int64)
        self._block = (-1, nothing)
        self._epoch = (-1, nothing)

    def windows(self, first: int, count: int) -> NDArray[np.int64]:
        """Name the windows at `count` places of the road, from `first` on."""
        if self.order == "sequential":
            return np.arange(first, first + count, dtype=np.int64) % self.n
        parts = []
        while count > 0:
            epoch, place = divmod(first, self.n)
            begin = place - place % _BLOCK
            block = self._block_at(epoch, begin)
            parts.append(block[place - begin : place - begin + count])
            first, count = first + len(parts[-1]), count - len(parts[-1])
        return np.concatenate(parts) if len(parts) != 1 else parts[0]

    def _block_at(self, epoch: int, begin: int) -> NDArray[np.int64]:
        known, block = self._block  # read and set as one: the loader's thread may be here, too
        if known != epoch * self.n + begin:
            places = np.arange(begin, min(begin + _BLOCK, self.n), dtype=np.int64)
            block = self._in_epoch(epoch, places)
            self._block = (epoch * self.n + begin, block)
        return block

    def _in_epoch(self, epoch: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.order == "permuted":
            return Permutation(self.n, seed=self.seed, epoch=epoch)(places)
        known, order = self._epoch
        if known != epoch:
            order = torch_order(self.n, seed=self.seed, epoch=epoch)
            self._epoch = (epoch, order)
        return order[places]


def _lay_out(windows: Windows, indices: NDArray[np.int64]) -> Batch:
    if windows.rows is not None:
        inputs, targets = map(torch.from_numpy, windows.gather(indices))
    else:
        # One buffer for both: targets are the inputs one place further.
        both = torch.from_numpy(windows.gather_both(indices)).to(torch.int64)
        inputs, targets = both[:, :-1], both[:, 1:]
        ignored = windows.ignored(indices)
        if ignored is not None:
            targets = targets.masked_fill(torch.from_numpy(ignored), IGNORED)
    batch = Batch((inputs, targets))
    if windows.documents != "stream":
        found = windows.boundaries(indices)
        batch.positions = torch.from_numpy(found.positions)
        batch.cu_seqlens = torch.from_numpy(found.cu_seqlens)
    return batch
