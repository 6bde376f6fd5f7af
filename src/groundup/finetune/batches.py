"""Batches of texts of different lengths, and the loss at their trained positions.

Positions without a target have the target -100. Batch k depends only on the rows, the settings and
k. Each epoch visits every row once; a batch may span two epochs.
"""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from groundup.base.errors import UserError
from groundup.base.targets import IGNORE_INDEX
from groundup.model.gpt import GPT
from groundup.model.loss import head_cross_entropy, head_log_probabilities
from groundup.train.precision import MixedPrecision

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


def spread(lengths: Sequence[int], n_parts: int) -> list[list[int]]:
    """Spread texts over parts of nearly the same number of tokens; return their indices.

    >>> spread([9, 2, 5, 3], 2)
    [[0], [1, 2, 3]]
    """
    parts: list[list[int]] = [[] for _ in range(min(n_parts, len(lengths)))]
    totals = [0] * len(parts)
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        smallest = totals.index(min(totals))
        parts[smallest].append(i)
        totals[smallest] += lengths[i]
    return [sorted(part) for part in parts]


class RowBatches:
    """Batches of rows, shuffled in each epoch.

    Args:
        rows: Ids and targets of each text.
        batch_size: Number of rows per batch.
        seed: Random seed of the order.
        pad: Id used for padding. Its targets are -100, so any id gives the same loss.
        layout: "padded": one row per text, padded on the right to the longest of the batch.
            "packed": the texts one after the other in `n_parts` rows, with as little padding as
            possible.
        sort_by_length: Put rows of similar lengths into the same batch. The batches of an epoch are
            still in random order.
        n_parts: Number of packed rows per batch: the parts of gradient accumulation.

    Raises:
        UserError: There are no rows.

    >>> rows = [([7], [8]), ([5, 6, 9], [-100, 9, 2])]
    >>> RowBatches(rows, 2, seed=1, layout="packed").batch(0)
    (tensor([[7, 5, 6, 9]]), tensor([[   8, -100,    9,    2]]), tensor([[1, 3]]))
    """

    def __init__(
        self,
        rows: Sequence[Row],
        batch_size: int,
        *,
        seed: int = 0,
        pad: int = 0,
        layout: Literal["padded", "packed"] = "padded",
        sort_by_length: bool = False,
        n_parts: int = 1,
    ) -> None:
        if not rows:
            raise UserError("There are no rows to train on.")
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.pad = pad
        self.layout = layout
        self.sort_by_length = sort_by_length
        self.n_parts = n_parts
        self._orders: dict[int, Int[np.ndarray, " n_rows"]] = {}

    def n_batches(self, epochs: float | int) -> int:
        """Number of batches that visit every row `epochs` times, the last one completed."""
        return max(1, math.ceil(epochs * len(self.rows) / self.batch_size))

    def batch(self, k: int) -> tuple[Tensor, ...]:
        """Return batch k.

        Returns:
            Ids (B, T) and targets (B, T), padded on the right; or, packed, ids (P, N), targets
            (P, N) and the lengths of the texts (P, D), where 0 stands for no text.
        """
        rows = [self.rows[i] for i in self.row_numbers(k)]
        if self.layout == "padded":
            return (
                pad_rows([ids for ids, _ in rows], pad=self.pad),
                pad_rows([targets for _, targets in rows], pad=IGNORE_INDEX),
            )
        parts = spread([len(ids) for ids, _ in rows], self.n_parts)
        return (
            pad_rows([[t for i in part for t in rows[i][0]] for part in parts], pad=self.pad),
            pad_rows([[t for i in part for t in rows[i][1]] for part in parts], pad=IGNORE_INDEX),
            pad_rows([[len(rows[i][0]) for i in part] for part in parts], pad=0),
        )

    def row_numbers(self, k: int) -> list[int]:
        """Return the index of each row of batch k."""
        n = len(self.rows)
        positions = range(k * self.batch_size, (k + 1) * self.batch_size)
        known = self._orders  # the order of an epoch is made once
        self._orders = {
            epoch: known[epoch] if epoch in known else self._order(epoch)
            for epoch in {p // n for p in positions}
        }
        return [int(self._orders[p // n][p % n]) for p in positions]

    def _order(self, epoch: int) -> Int[np.ndarray, " n_rows"]:
        generator = np.random.default_rng([self.seed, epoch])
        order = generator.permutation(len(self.rows))
        if not self.sort_by_length:
            return order
        # The first rows complete the last batch of the epoch before.
        first = -epoch * len(order) % self.batch_size
        lengths = np.array([len(self.rows[i][0]) for i in order[first:]], dtype=np.int64)
        by_length = order[first:][np.argsort(lengths, kind="stable")]
        n_full = len(by_length) // self.batch_size * self.batch_size
        batches = generator.permutation(by_length[:n_full].reshape(-1, self.batch_size))
        return np.concatenate((order[:first], batches.ravel(), by_length[n_full:]))

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches from number 0 on, without end."""
        k = 0
        while True:
            yield self.batch(k)
            k += 1


def sequence_loss(
    model: GPT | MixedPrecision,
    ids: Tensor,
    targets: Tensor,
    lengths: Tensor | None = None,
    *,
    reduction: Literal["mean", "sum"] = "mean",
) -> Float[Tensor, ""]:
    """Compute the cross-entropy in nats at the trained positions of a batch of `RowBatches`.

    Padding is left out of the computation, and only trained positions have logits.

    Args:
        model: The model; with `MixedPrecision` the loss is computed with rounded weights.
        ids: Token ids, (B, T), or (P, N) packed.
        targets: The token after each of them, of the same shape; -100: not trained.
        lengths: Lengths of the documents of each packed row, (P, D).
        reduction: "mean" or "sum" over the trained positions.

    Raises:
        UserError: No position is trained, or the model refuses the ids.
    """
    if isinstance(model, MixedPrecision):
        return model.run(partial(sequence_loss, reduction=reduction), ids, targets, lengths)
    hidden, targets, _ = _at_targets(model, ids, targets, lengths)
    return head_cross_entropy(hidden[None], model.head.weight, targets[None], reduction=reduction)


def token_log_probabilities(
    model: GPT | MixedPrecision, ids: Tensor, targets: Tensor, lengths: Tensor | None = None
) -> Float[Tensor, "B T"]:
    """Compute the log probability in nats of each target; it is 0 where the target is -100.

    The memory does not grow with the vocabulary, as in `sequence_loss`.

    Args:
        model: See `sequence_loss`.
        ids: See `sequence_loss`.
        targets: See `sequence_loss`.
        lengths: See `sequence_loss`.

    Raises:
        UserError: See `sequence_loss`.
    """
    if isinstance(model, MixedPrecision):
        return model.run(token_log_probabilities, ids, targets, lengths)
    hidden, some, where = _at_targets(model, ids, targets, lengths)
    found = head_log_probabilities(hidden, model.head.weight, some)  # (M,)
    return found.new_zeros(targets.shape).masked_scatter(where, found)  # (B, T)


def _at_targets(
    model: GPT, ids: Tensor, targets: Tensor, lengths: Tensor | None
) -> tuple[Float[Tensor, "M C"], Int[Tensor, " M"], Bool[Tensor, "B T"]]:
    """Compute the hidden states of the M trained positions, their targets, and where they are."""
    where = targets != IGNORE_INDEX  # (B, T)
    positions = torch.arange(ids.shape[1], device=ids.device)
    if lengths is None:
        # What comes after the last target of a row does not influence the loss.
        lengths = ((positions + 1) * where).amax(dim=1, keepdim=True)  # (B, 1)
    is_read = positions < lengths.sum(dim=1, keepdim=True)  # (B, T)
    if not bool(where.any()):
        raise UserError("The batch has no trained token: every target is -100.")
    hidden = model.hidden(ids[is_read][None], lengths=lengths)[0]  # (N, C)
    trained = where[is_read].nonzero().squeeze(1)  # (M,)
    return hidden.index_select(0, trained), targets[where], where
