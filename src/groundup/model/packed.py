"""Packed rows: several documents one after the other, each computed as if it were alone.

Padding costs as much as text. A packed row has none: positions restart with each document, and
attention does not cross from one document to the next. No mask of N x N positions is stored.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from groundup.base.errors import UserError
from groundup.model.attention import attention_fused, by_blocks
from groundup.model.grouped_attention import Grouping, group, grouped_attention


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
    ends: Int[Tensor, " n"]
    """0, and the number of tokens up to the end of each document, int32."""

    groupings: dict[tuple[int, int], Grouping] = field(default_factory=dict, compare=False)
    """Computed when first needed, and used by all layers."""

    def grouping(self, n_heads: int, n_kv_heads: int) -> Grouping:
        """Return the groups of documents of similar lengths."""
        shape = n_heads, n_kv_heads
        if shape not in self.groupings:
            self.groupings[shape] = group(self.lengths, *shape)
        return self.groupings[shape]

    @classmethod
    def of(cls, lengths: Tensor | Sequence[int]) -> "Documents":
        """Read the lengths of the documents, in any shape; 0 stands for no document.

        Raises:
            UserError: There is no document, or a length is negative.
        """
        lengths = torch.as_tensor(lengths)
        found = tuple(n for n in lengths.flatten().tolist() if n)
        if not found or min(found) < 0:
            raise UserError(
                f"The lengths of the documents are {list(found)}. Positive numbers are expected."
            )
        positions = torch.cat([torch.arange(n) for n in found])
        ends = torch.tensor([0, *found]).cumsum(0).to(torch.int32)
        return cls(found, positions.to(lengths.device), ends.to(lengths.device))


def attention_packed(
    queries: Float[Tensor, "1 H N D"],
    keys: Float[Tensor, "1 G N D"],
    values: Float[Tensor, "1 G N D"],
    documents: Documents,
    *,
    window: int | None = None,
    dropout: float | int = 0.0,
) -> Float[Tensor, "1 H N D"]:
    """Compute causal attention within each document, by whichever kernel is fastest."""
    longest = max(documents.lengths)
    if window is not None and window >= longest:
        window = None
    if not dropout and by_blocks(longest, queries.dtype, queries.device):
        grouping = documents.grouping(queries.shape[1], keys.shape[1])
        return grouped_attention(queries[0], keys[0], values[0], grouping, window=window)[None]
    if not dropout and _has_variable_lengths(queries):
        return _by_flash(queries, keys, values, documents, window)
    parts = (torch.split(x, list(documents.lengths), dim=2) for x in (queries, keys, values))
    alone = [
        attention_fused(q, k, v, window=window, dropout=dropout)
        for q, k, v in zip(*parts, strict=True)
    ]
    return torch.cat(alone, dim=2)


def _has_variable_lengths(queries: Tensor) -> bool:
    """Whether torch's flash attention for documents of variable lengths computes these queries."""
    fits = queries.shape[-1] % 8 == 0 and queries.shape[-1] <= 256
    if queries.device.type != "cuda" or queries.dtype == torch.float32 or not fits:
        return False
    try:
        from torch.nn.attention.varlen import varlen_attn  # new in torch 2.10
    except ImportError:
        return False
    return {"window_size", "enable_gqa"} <= inspect.signature(varlen_attn).parameters.keys()


def _by_flash(
    queries: Tensor, keys: Tensor, values: Tensor, documents: Documents, window: int | None
) -> Float[Tensor, "1 H N D"]:
    from torch.nn.attention.varlen import varlen_attn

    longest = max(documents.lengths)
    q, k, v = (x[0].transpose(0, 1).contiguous() for x in (queries, keys, values))  # (N, heads, D)
    mixed: Any = varlen_attn(
        q,
        k,
        v,
        documents.ends,
        documents.ends,
        longest,
        longest,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=keys.shape[1] != queries.shape[1],
    )
    result: Tensor = mixed.transpose(0, 1)[None]
    return result
