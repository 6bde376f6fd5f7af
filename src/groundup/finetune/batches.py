"""Padded batches of texts of different lengths.

Rows are padded on the right, and positions without a target get the target -100. Batch k depends
only on the rows, the seed and k. Each epoch visits every row once; a batch may span two epochs.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from groundup.base.targets import IGNORE_INDEX

Row = tuple[list[int], list[int]]
"""Token ids of one text, and a target for each (-100: none)."""


def pad_rows(rows: Sequence[Sequence[int]], *, pad: int) -> Int[Tensor, "B T"]:
    """Stack rows of different lengths into one matrix, padded on the right.

    >>> pad_rows([[5, 6], [7]], pad=0).tolist()
    [[5, 6], [7, 0]]
    """
    matrix = np.full((len(rows), max(map(len, rows))), pad, dtype=np.int64)
    for row, ids in zip(matrix, rows, strict=True):
        row[: len(ids)] = ids
    return torch.from_numpy(matrix)


def language_row(ids: Sequence[int], mask: Sequence[int], context_length: int) -> Row | None:
    """Make inputs and next-token targets of one conversation; only tokens with mask 1 are targets.

    Returns None when the conversation is longer than the context, or has no target: an answer is
    never cut, because a model that is trained on cut answers does not learn to end them.

    >>> language_row([7, 8, 9, 2], [0, 0, 1, 1], context_length=16)
    ([7, 8, 9], [-100, 9, 2])
    """
    if len(ids) > context_length + 1 or not any(mask[1:]):
        return None
    targets = [token if m else IGNORE_INDEX for token, m in zip(ids[1:], mask[1:], strict=True)]
    return list(ids[:-1]), targets


def label_row(ids: Sequence[int], label: int) -> Row:
    """Make inputs with a single target, the label, at the last token.

    >>> label_row([7, 8, 9], 1)
    ([7, 8, 9], [-100, -100, 1])
    """
    return list(ids), [IGNORE_INDEX] * (len(ids) - 1) + [label]


class RowLoader:
    """An endless iterator over padded batches of rows, shuffled in each epoch.

    Args:
        rows: Ids and targets of each text.
        batch_size: Number of rows per batch.
        seed: Random seed of the order.
        pad: Id used for padding. Its targets are -100, so any id gives the same loss.
    """

    def __init__(
        self, rows: Sequence[Row], batch_size: int, *, seed: int = 0, pad: int = 0
    ) -> None:
        if not rows:
            raise ValueError("There are no rows to make batches from.")
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.pad = pad

    def batch(self, k: int) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
        """Return ids and targets of batch k, padded to its longest row."""
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
        """Yield the batches from number 0 on, without end."""
        k = 0
        while True:
            yield self.batch(k)
            k += 1
