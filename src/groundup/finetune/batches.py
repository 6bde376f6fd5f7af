"""Batches of texts of different length: padded to the right, what is not to be learnt set to -100.

Like the loader of pretraining, the k-th batch is a pure function of the seed and k, so a run can
be stopped and taken up again with nothing but the number k. An epoch visits every row once; a
batch may straddle two.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from groundup.base.targets import IGNORE_INDEX

Row = tuple[list[int], list[int]]
"""Ids of one text and a target for each (-100: not learnt)."""


def pad_rows(rows: Sequence[Sequence[int]], *, pad: int) -> Int[Tensor, "B T"]:
    """Rows of different length as one matrix, padded to the right.

    >>> pad_rows([[5, 6], [7]], pad=0).tolist()
    [[5, 6], [7, 0]]
    """
    matrix = np.full((len(rows), max(map(len, rows))), pad, dtype=np.int64)
    for row, ids in zip(matrix, rows, strict=True):
        row[: len(ids)] = ids
    return torch.from_numpy(matrix)


def language_row(ids: Sequence[int], mask: Sequence[int], context_length: int) -> Row | None:
    """Inputs and next-token targets of one conversation; only tokens with mask 1 are targets.

    What goes beyond the context is cut off; None when nothing to learn is left.

    >>> language_row([7, 8, 9, 2], [0, 0, 1, 1], context_length=16)
    ([7, 8, 9], [-100, 9, 2])
    """
    kept, learnt = list(ids[: context_length + 1]), list(mask[: context_length + 1])
    targets = [token if m else IGNORE_INDEX for token, m in zip(kept[1:], learnt[1:], strict=True)]
    return (kept[:-1], targets) if any(t != IGNORE_INDEX for t in targets) else None


def label_row(ids: Sequence[int], label: int) -> Row:
    """Inputs and one target, the label, at the last token.

    >>> label_row([7, 8, 9], 1)
    ([7, 8, 9], [-100, -100, 1])
    """
    return list(ids), [IGNORE_INDEX] * (len(ids) - 1) + [label]


class RowLoader:
    """Endless padded batches over rows in a keyed random order.

    Args:
        rows: (ids, targets) of each text.
        batch_size: Rows per batch.
        seed: Fixes the order of every epoch.
        pad: Id that fills the rest of a row; its targets are -100, so which one does not matter.
    """

    def __init__(
        self, rows: Sequence[Row], batch_size: int, *, seed: int = 0, pad: int = 0
    ) -> None:
        if not rows:
            raise ValueError("no rows to make batches of")
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.pad = pad
        self.k = 0

    @property
    def n_batches_per_epoch(self) -> int:
        """Batches that together show every row at least once."""
        return -(-len(self.rows) // self.batch_size)

    def batch(self, k: int) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
        """The k-th batch: ids and targets, padded to the longest row in it."""
        positions = range(k * self.batch_size, (k + 1) * self.batch_size)
        epochs = {p // len(self.rows) for p in positions}
        orders = {epoch: self._order(epoch) for epoch in epochs}
        rows = [self.rows[orders[p // len(self.rows)][p % len(self.rows)]] for p in positions]
        return (
            pad_rows([ids for ids, _ in rows], pad=self.pad),
            pad_rows([targets for _, targets in rows], pad=IGNORE_INDEX),
        )

    def _order(self, epoch: int) -> Int[np.ndarray, " n_rows"]:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))

    def __iter__(self) -> Iterator[tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]]:
        """Yield batches from where the loader stands, for ever."""
        while True:
            self.k += 1
            yield self.batch(self.k - 1)

    def state_dict(self) -> dict[str, int]:
        """Where the loader stands: enough to go on exactly from here."""
        return {"k": self.k, "seed": self.seed, "n_rows": len(self.rows)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a stored place.

        Raises:
            ValueError: the state belongs to other rows or another seed.
        """
        if (state["seed"], state["n_rows"]) != (self.seed, len(self.rows)):
            raise ValueError(f"this state is of another loader: {state}")
        self.k = state["k"]


def mean_loss(model: torch.nn.Module, rows: Sequence[Row], *, batch_size: int = 32) -> float:
    """Mean loss in nats over all targets of the rows, each weighted equally.

    Args:
        model: Anything with `loss(ids, targets)`, the mean over the targets that are not -100.
        rows: The rows to measure on.
        batch_size: Rows per batch; the result does not depend on it.
    """
    if not rows:
        raise ValueError("no rows to measure the loss on")
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    loss = model.loss
    assert callable(loss)
    total, n_targets = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(rows), batch_size):
            some = rows[start : start + batch_size]
            targets = pad_rows([t for _, t in some], pad=IGNORE_INDEX).to(device)
            ids = pad_rows([i for i, _ in some], pad=0).to(device)
            n = int((targets != IGNORE_INDEX).sum())
            total += float(loss(ids, targets)) * n
            n_targets += n
    model.train(was_training)
    return total / n_targets
