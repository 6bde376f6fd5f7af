"""Packed rows: several documents one after the other, each computed as if it were alone.

Padding costs as much as text. A packed row has none: positions restart with each document, and
attention does not cross from one document to the next. No mask of N x N positions is stored.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from groundup.base.errors import UserError
from groundup.model.attention import attention_fused, by_blocks
from groundup.model.count import ATTENTION_BLOCK
from groundup.model.layers import softmax


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
        tiles = list(tiles_of(documents.lengths, window))
        mixed: Tensor = _Tiles.apply(queries[0], keys[0], values[0], tiles, window)  # type: ignore[no-untyped-call]
        return mixed[None]
    if not dropout and _has_variable_lengths(queries):
        return _by_flash(queries, keys, values, documents, window)
    parts = (torch.split(x, list(documents.lengths), dim=2) for x in (queries, keys, values))
    alone = [
        attention_fused(q, k, v, window=window, dropout=dropout)
        for q, k, v in zip(*parts, strict=True)
    ]
    return torch.cat(alone, dim=2)


class Tile(NamedTuple):
    """Some queries of a document, and the keys that any of them sees."""

    queries: slice
    keys: slice


def tiles_of(
    lengths: Sequence[int], window: int | None, block: int = ATTENTION_BLOCK
) -> Iterator[Tile]:
    """Divide the documents into at most `block` queries each."""
    begin = 0
    for n in lengths:
        for start in range(0, n, block):
            stop = begin + min(start + block, n)
            first = 0 if window is None else max(0, start - window + 1)
            yield Tile(slice(begin + start, stop), slice(begin + first, stop))
        begin += n


class _Tiles(torch.autograd.Function):
    """Attention by matrix products, one tile at a time, with few operations per tile.

    A batch has many short documents, for which the calls of the operations and of their backward
    passes cost more than the products.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        tiles: list[Tile],
        window: int | None,
    ) -> Float[Tensor, "H N D"]:
        H, N, D = queries.shape
        ctx.tiles, ctx.n_kv_heads = tiles, len(keys)
        keys, values = (x.repeat_interleave(H // len(x), dim=0) for x in (keys, values))
        # How far the first query of a tile is behind its first key, at most.
        furthest = max(tile.queries.start - tile.keys.start for tile in tiles)
        widest = max(tile.queries.stop - tile.queries.start for tile in tiles)
        mask = torch.full((widest, furthest + widest), -torch.inf, dtype=queries.dtype)
        behind = torch.arange(widest)[:, None] + furthest - torch.arange(furthest + widest)
        is_seen = behind >= 0 if window is None else (behind >= 0) & (behind < window)
        mask = mask.masked_fill(is_seen, 0.0)
        mixed = queries.new_empty(N, H, D)  # as the output projection reads it
        kept = []
        for tile in tiles:
            shift = furthest - (tile.queries.start - tile.keys.start)
            height = tile.queries.stop - tile.queries.start
            width = tile.keys.stop - tile.keys.start
            weights = softmax(
                torch.baddbmm(
                    mask[:height, shift : shift + width],
                    queries[:, tile.queries],
                    keys[:, tile.keys].mT,
                    alpha=D**-0.5,
                )
            )  # (H, height, width)
            mixed[tile.queries] = (weights @ values[:, tile.keys]).transpose(0, 1)
            kept.append(weights)
        ctx.save_for_backward(queries, keys, values, *kept)
        return mixed.transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, *kept = ctx.saved_tensors
        H, N, D = queries.shape
        gradient = gradient.contiguous()
        d_queries, d_keys, d_values = (torch.zeros_like(queries) for _ in range(3))  # (H, N, D)
        for tile, weights in zip(ctx.tiles, kept, strict=True):
            outer = gradient[:, tile.queries]
            d_weights = outer @ values[:, tile.keys].mT  # (H, height, width)
            d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
            d_values[:, tile.keys] += weights.mT @ outer
            d_keys[:, tile.keys] += d_scores.mT @ queries[:, tile.queries]
            d_queries[:, tile.queries] = d_scores @ keys[:, tile.keys]
        d_keys, d_values = (
            x.view(ctx.n_kv_heads, H // ctx.n_kv_heads, N, D).sum(dim=1) for x in (d_keys, d_values)
        )
        return d_queries.mul_(D**-0.5), d_keys.mul_(D**-0.5), d_values, None, None


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
