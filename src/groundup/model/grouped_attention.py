"""Attention within each of many short documents, computed for all of similar lengths at once.

A batch of fine-tuning has many short documents. For each of them the calls of the operations cost
more than the products, and a softmax over a length that is not a multiple of a vector register's
takes three times as long. So the documents are copied to groups, padded to a multiple of 32.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from groundup.model.count import ATTENTION_BLOCK
from groundup.model.layers import softmax

_MULTIPLE = 32
"""Lengths of the groups are multiples of this."""


class Group(NamedTuple):
    """Documents that are padded to the same length."""

    n_documents: int
    length: int


@dataclass(frozen=True)
class Grouping:
    """Where each vector of a packed row is in the groups, and back.

    Rows are those of queries (H N, D), keys (G N, D) and outputs (N H, D). The groups are one after
    the other; the order within a group is that of key heads, documents, query heads of a key head,
    positions.
    """

    groups: tuple[Group, ...]
    n_heads: int
    n_kv_heads: int
    query_rows: Int[Tensor, " P"]
    """The row of each place of the groups; padding has that of the last token of its document."""
    key_rows: Int[Tensor, " Q"]
    output_rows: Int[Tensor, " P"]
    """Padding has the row after the last one."""
    query_places: Int[Tensor, " HN"]
    """The place of each row."""
    key_places: Int[Tensor, " GN"]
    output_places: Int[Tensor, " NH"]


def group(lengths: Sequence[int], n_heads: int, n_kv_heads: int) -> Grouping:
    """Group documents by their lengths, rounded up to a multiple of 32."""
    N, H, G = sum(lengths), n_heads, n_kv_heads
    R = H // G  # query heads of a key head
    sizes = torch.tensor(lengths)
    starts = sizes.cumsum(0) - sizes
    rounded = (sizes + _MULTIPLE - 1) // _MULTIPLE * _MULTIPLE
    groups, query_rows, key_rows, output_rows, is_text = [], [], [], [], []
    heads, kv_heads = torch.arange(H).view(G, 1, R, 1), torch.arange(G).view(G, 1, 1)
    for length in torch.unique(rounded).tolist():
        some = rounded == length
        groups.append(Group(int(some.sum()), length))
        places = torch.arange(length).expand(groups[-1].n_documents, length)  # (B, T)
        real = places < sizes[some, None]
        tokens = starts[some, None] + places.minimum(sizes[some, None] - 1)
        query_rows.append((heads * N + tokens[:, None]).flatten())  # (G, B, R, T)
        key_rows.append((kv_heads * N + tokens).flatten())  # (G, B, T)
        rows = torch.where(real[:, None], tokens[:, None] * H + heads, N * H)
        output_rows.append(rows.flatten())
        is_text.append(real.expand(G, *real.shape).flatten())
    queries, keys, outputs = (torch.cat(rows) for rows in (query_rows, key_rows, output_rows))
    return Grouping(
        tuple(groups),
        H,
        G,
        query_rows=queries,
        key_rows=keys,
        output_rows=outputs,
        query_places=_places(queries, outputs < N * H, H * N),
        key_places=_places(keys, torch.cat(is_text), G * N),
        output_places=_places(outputs, outputs < N * H, N * H),
    )


def _places(rows: Tensor, is_text: Tensor, n_rows: int) -> Tensor:
    places = torch.empty(n_rows, dtype=torch.int64)
    places[rows[is_text]] = is_text.nonzero().squeeze(1)
    return places


class _GroupedAttention(torch.autograd.Function):
    """Causal attention within each document: (H, N, D), (G, N, D), (G, N, D) to (N, H, D)."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        grouping: Grouping,
        window: int | None,
    ) -> Float[Tensor, "N H D"]:
        H, N, D = queries.shape
        queries = queries.reshape(-1, D).index_select(0, grouping.query_rows)  # (P, D)
        keys, values = (
            x.reshape(-1, D).index_select(0, grouping.key_rows) for x in (keys, values)
        )  # (Q, D) each
        mixed, kept = torch.empty_like(queries), []
        for q, k, v, out in _by_group(grouping, queries, keys, values, mixed):
            for here, seen, mask in _tiles(q, window):
                some = q[:, :, here].flatten(1, 2)  # (G B, R t, D)
                weights = softmax(
                    torch.baddbmm(mask, some, k[:, 0, seen].mT, alpha=D**-0.5)
                )  # (G B, R t, s)
                out[:, :, here] = (weights @ v[:, 0, seen]).view_as(out[:, :, here])
                kept.append(weights)
        ctx.grouping, ctx.window = grouping, window
        ctx.save_for_backward(queries, keys, values, *kept)
        return mixed.index_select(0, grouping.output_places).view(N, H, D)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, *kept = ctx.saved_tensors
        grouping: Grouping = ctx.grouping
        N, H, D = gradient.shape
        gradient = gradient.reshape(-1, D)
        gradient = torch.cat((gradient, gradient.new_zeros(1, D)))  # that of padding
        gradient = gradient.index_select(0, grouping.output_rows)  # (P, D)
        d_queries, d_keys, d_values = (torch.zeros_like(x) for x in (queries, keys, values))
        weights = iter(kept)
        for q, k, v, outer, dq, dk, dv in _by_group(
            grouping, queries, keys, values, gradient, d_queries, d_keys, d_values
        ):
            for here, seen, _ in _tiles(q, ctx.window):
                p, some = next(weights), outer[:, :, here].flatten(1, 2)
                d_scores = torch._softmax_backward_data(some @ v[:, 0, seen].mT, p, -1, p.dtype)
                dv[:, 0, seen] += p.mT @ some
                dk[:, 0, seen] += d_scores.mT @ q[:, :, here].flatten(1, 2)
                dq[:, :, here] = (d_scores @ k[:, 0, seen]).view_as(dq[:, :, here])
        d_queries = d_queries.index_select(0, grouping.query_places).view(H, N, D)
        d_keys, d_values = (
            x.index_select(0, grouping.key_places).view(-1, N, D) for x in (d_keys, d_values)
        )
        return d_queries.mul_(D**-0.5), d_keys.mul_(D**-0.5), d_values, None, None


def _by_group(grouping: Grouping, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """View the part of each group: (G B, R, T, D), or (G B, 1, T, D) of keys and values."""
    G, starts = grouping.n_kv_heads, [0] * len(tensors)
    n_places = len(grouping.query_rows)
    for n_documents, length in grouping.groups:
        parts = []
        for i, tensor in enumerate(tensors):
            rows = G * n_documents * length
            if len(tensor) == n_places:
                rows *= grouping.n_heads // G
            part = tensor[starts[i] : starts[i] + rows]
            parts.append(part.view(G * n_documents, -1, length, tensor.shape[1]))
            starts[i] += rows
        yield tuple(parts)


def _tiles(queries: Tensor, window: int | None) -> Iterator[tuple[slice, slice, Tensor]]:
    """Divide the positions of a group: those of queries, those of the keys that they see, a mask.

    The mask, (R t, s), is 0 where a query sees a key, and minus infinity elsewhere.
    """
    R, T = queries.shape[1:3]
    for start in range(0, T, ATTENTION_BLOCK):
        stop = min(start + ATTENTION_BLOCK, T)
        first = 0 if window is None else max(0, start - window + 1)
        behind = torch.arange(start, stop)[:, None] - torch.arange(first, stop)  # (t, s)
        hidden = behind < 0 if window is None else (behind < 0) | (behind >= window)
        mask = torch.zeros(hidden.shape, dtype=queries.dtype).masked_fill_(hidden, -torch.inf)
        yield slice(start, stop), slice(first, stop), mask.repeat(R, 1)


def grouped_attention(
    queries: Float[Tensor, "H N D"],
    keys: Float[Tensor, "G N D"],
    values: Float[Tensor, "G N D"],
    grouping: Grouping,
    *,
    window: int | None = None,
) -> Float[Tensor, "H N D"]:
    """Compute causal attention within each document of a packed row."""
    mixed: Tensor = _GroupedAttention.apply(queries, keys, values, grouping, window)  # type: ignore[no-untyped-call]
    return mixed.transpose(0, 1)
