"""Batches of pairs. Their first dimension is that of the pairs, so that no split separates one."""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor

from groundup.base.targets import IGNORE_INDEX
from groundup.finetune.batches import Row, RowBatches, pad_rows

PairRows = tuple[Row, Row]
"""Ids and targets of the chosen and of the rejected answer of a pair."""


def pair_batch(pairs: Sequence[PairRows]) -> tuple[Int[Tensor, "n 2 T"], Int[Tensor, "n 2 T"]]:
    """Stack pairs as ids and targets, padded on the right.

    >>> ids, targets = pair_batch([(([5, 6], [-100, 7]), ([5], [8]))])
    >>> ids.tolist(), targets.tolist()
    ([[[5, 6], [5, 0]]], [[[-100, 7], [8, -100]]])
    """
    rows = [row for pair in pairs for row in pair]
    ids = pad_rows([ids for ids, _ in rows], pad=0)
    targets = pad_rows([targets for _, targets in rows], pad=IGNORE_INDEX)
    return ids.view(len(pairs), 2, -1), targets.view(len(pairs), 2, -1)


def n_pairs(batch: tuple[Tensor, ...]) -> int:
    """Count the pairs of a batch: the loss is their mean."""
    return len(batch[0])


class PairBatches:
    """Batches of pairs with their reference log-probabilities, shuffled in each epoch.

    Args:
        pairs: Ids and targets of both answers of each pair.
        reference: Their log-probabilities under the reference model, in nats.
        batch_size: Number of pairs per batch.
        seed: Random seed of the order.
    """

    def __init__(
        self,
        pairs: Sequence[PairRows],
        reference: Float[Tensor, "n 2"],
        batch_size: int,
        *,
        seed: int = 0,
    ) -> None:
        self.pairs, self.reference = pairs, reference
        self._order = RowBatches([chosen for chosen, _ in pairs], batch_size, seed=seed)

    def batch(
        self, k: int
    ) -> tuple[Int[Tensor, "n 2 T"], Int[Tensor, "n 2 T"], Float[Tensor, "n 2"]]:
        """Return ids, targets and reference log-probabilities of batch k."""
        numbers = self._order.row_numbers(k)
        ids, targets = pair_batch([self.pairs[i] for i in numbers])
        return ids, targets, self.reference[numbers]
