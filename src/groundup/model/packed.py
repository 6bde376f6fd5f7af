"""Packed rows: several documents one after the other, each computed as if it were alone.

Padding costs as much as text. A packed row has none: positions restart with each document, and
attention does not cross from one document to the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from groundup.base.errors import UserError
from groundup.model.attention import attention_fused


@dataclass(frozen=True)
class Documents:
    """Where the documents of a packed row are.

    >>> Documents.of(torch.tensor([2, 3])).positions.tolist()
    [0, 1, 0, 1, 2]
    """

    lengths: tuple[int, ...]
    """Number of tokens of each document, in order."""
    positions: Int[Tensor, " N"]
    """Position of each token in its document."""

    @classmethod
    def of(cls, lengths: Tensor | Sequence[int]) -> "Documents":
        """Read the lengths of the documents, in any shape; 0 stands for no document."""
        lengths = torch.as_tensor(lengths)
        found = tuple(n for n in lengths.flatten().tolist() if n)
        if not found or min(found) < 0:
            raise UserError(
                f"The lengths of the documents are {list(found)}. Positive numbers are expected."
            )
        positions = torch.cat([torch.arange(n) for n in found])
        return cls(found, positions.to(lengths.device))


def attention_packed(
    queries: Float[Tensor, "1 H N D"],
    keys: Float[Tensor, "1 G N D"],
    values: Float[Tensor, "1 G N D"],
    documents: Documents,
    *,
    window: int | None = None,
    dropout: float | int = 0.0,
) -> Float[Tensor, "1 H N D"]:
    """Compute causal attention within each document."""
    parts = (torch.split(x, list(documents.lengths), dim=2) for x in (queries, keys, values))
    mixed = [
        attention_fused(q, k, v, window=window, dropout=dropout)
        for q, k, v in zip(*parts, strict=True)
    ]
    return torch.cat(mixed, dim=2)
