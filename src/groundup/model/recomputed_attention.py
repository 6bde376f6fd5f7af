"""Causal attention in parts that the backward pass computes again: memory is linear in the length.

`attention_blocks` stores all attention weights for the backward pass. Here a part of the queries
and the keys that they see are multiplied at a time, and only queries, keys and values are stored.
Keys and values of earlier positions may come first, as they do in a segment of a longer text.

With a window, positions are divided into spans at least as long as the window. A query sees keys of
its own span and of the span before, so rotary angles count from the start of the span before: the
tables have two spans of rows, and are exact at any length of the text.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from groundup.model.count import ATTENTION_BLOCK
from groundup.model.layers import softmax
from groundup.model.rotary import RotaryLayout, rotate
from groundup.model.uncompiled import not_compiled

_AT_ONCE, _AT_ONCE_ON_GPU = 2**20, 2**26
"""Attention weights that exist at a time, unless one position has more: 4 MB of float32."""
_LEAST_BLOCK = 8


def span_of(window: int) -> int:
    """Positions of a span: the window, rounded up to whole blocks.

    >>> span_of(512), span_of(100), span_of(600)
    (512, 128, 640)
    """
    return -(-window // ATTENTION_BLOCK) * ATTENTION_BLOCK


@dataclass(frozen=True)
class _Plan:
    """What the forward and the backward pass have in common."""

    window: int | None
    span: int
    """Positions of a span; without a window all queries are one span."""
    layout: RotaryLayout
    dropout: float
    seed: int
    """The dropout of the backward pass must be that of the forward pass."""


@dataclass(frozen=True)
class _Tile:
    """Spans that are computed at once, and their queries, keys and values side by side."""

    spans: slice
    """Positions of the spans."""
    n_spans: int
    n_before: int
    """Keys of the span before the first query of each span."""
    queries: Float[Tensor, "N R t D"]
    """N = key heads x batch x spans, R query heads of a key head."""
    keys: Float[Tensor, "N s D"]
    values: Float[Tensor, "N s D"]


class _RecomputedAttention(torch.autograd.Function):
    """(G B, R, T, D), (G B, T, D) twice, (G B, P, D) twice, two tables to (G B, R, T, D)."""

    @staticmethod
    def forward(ctx: Any, plan: _Plan, *tensors: Tensor | None) -> Tensor:
        queries = tensors[0]
        assert queries is not None
        ctx.plan = plan
        ctx.save_for_backward(*tensors)
        output = torch.empty_like(queries)
        dropout = _dropout(plan, queries)
        for tile in _tiles(plan, tensors):
            mixed = torch.empty_like(tile.queries)  # (N, R, t, D)
            for here, seen, weights in _weights(plan, tile):
                if dropout is not None:
                    weights.mul_(dropout(weights))
                part = torch.bmm(weights, tile.values[:, seen])  # (N, R b, D)
                mixed[:, :, here] = part.view(len(part), tile.queries.shape[1], -1, part.shape[2])
            _in_spans(output, tile).copy_(_by_head(mixed, tile))
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        plan: _Plan = ctx.plan
        saved = ctx.saved_tensors  # read once: activation checkpointing allows no more
        queries, keys, _, keys_before, _, cos, sin = saved
        D, R = queries.shape[3], queries.shape[1]
        d_queries, d_keys, d_values = (
            torch.empty_like(queries), torch.zeros_like(keys), torch.zeros_like(keys),
        )  # fmt: skip
        has_before = keys_before is not None
        d_before = [torch.zeros_like(keys_before) if has_before else None for _ in range(2)]
        dropout = _dropout(plan, queries)
        for tile in _tiles(plan, saved):
            N, _, t, _ = tile.queries.shape
            outer = _by_span(_in_spans(gradient, tile))  # (N, R, t, D)
            dq = torch.empty_like(tile.queries)
            # In float32 at least: many blocks of queries add to the same keys.
            exact = torch.promote_types(tile.keys.dtype, torch.float32)
            dk, dv = (torch.zeros_like(x, dtype=exact) for x in (tile.keys, tile.values))
            for here, seen, weights in _weights(plan, tile):
                k, v = tile.keys[:, seen], tile.values[:, seen]
                q = tile.queries[:, :, here].reshape(N, -1, D)
                some = outer[:, :, here].reshape(N, -1, D)
                d_weights = torch.bmm(some, v.mT)
                kept = weights
                if dropout is not None:
                    mask = dropout(weights)
                    kept, d_weights = weights * mask, d_weights.mul_(mask)
                d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
                dv[:, seen] += torch.bmm(kept.mT, some)
                dk[:, seen] += torch.bmm(d_scores.mT, q)
                dq[:, :, here] = torch.bmm(d_scores, k).view(N, R, -1, D)
            dk *= D**-0.5
            dq *= D**-0.5
            if cos is not None:  # the gradient is rotated backward
                dq = rotate(dq, cos[plan.span :][:t], -sin[plan.span :][:t], plan.layout)
                rows = slice(plan.span - tile.n_before, plan.span + t)
                dk = rotate(dk, cos[rows], -sin[rows], plan.layout)
            _in_spans(d_queries, tile).copy_(_by_head(dq, tile))
            for total, before, part in ((d_keys, d_before[0], dk), (d_values, d_before[1], dv)):
                part = part.view(len(total), tile.n_spans, -1, D)
                own = part[:, :, tile.n_before :]  # (G B, n, t, D)
                total[:, tile.spans].view(own.shape).add_(own)
                if tile.n_before and tile.spans.start:
                    earlier = part[:, :, : tile.n_before]
                    shifted = slice(tile.spans.start - plan.span, tile.spans.stop - t)
                    total[:, shifted].view(earlier.shape).add_(earlier)
                elif before is not None and tile.n_before:
                    before[:, before.shape[1] - tile.n_before :] += part[:, 0, : tile.n_before]
        return None, d_queries, d_keys, d_values, *d_before, None, None


def _tiles(plan: _Plan, tensors: tuple[Any, ...]) -> Iterator[_Tile]:
    """Divide the positions: the first span, whole spans, many at once, and the rest."""
    queries, keys, values, keys_before, values_before, cos, sin = tensors
    GB, R, T, _ = queries.shape
    L = plan.span
    width = min(L, plan.window or L) + ATTENTION_BLOCK
    at_once = max(1, _most(queries) // (GB * R * ATTENTION_BLOCK * width))
    n_whole = T // L
    starts = [0, *range(1, n_whole, at_once), n_whole] if n_whole else [0]
    for first in starts:
        last = min(first + (1 if first == 0 else at_once), n_whole) if first < n_whole else first
        start, stop = first * L, T if first == n_whole else last * L
        if start >= stop:
            continue
        n = max(1, last - first)
        t = (stop - start) // n
        q = _by_span(_divided(queries[:, :, start:stop], 2, n))  # (N, R, t, D)
        pairs = []
        for own, before in ((keys, keys_before), (values, values_before)):
            parts = [_divided(own[:, start:stop], 1, n)]
            if start:
                parts.insert(0, _divided(own[:, start - L : start + (n - 1) * L], 1, n))
            elif before is not None:
                parts.insert(0, before[:, None])
            pairs.append(torch.cat(parts, dim=2).flatten(0, 1))  # (N, L + t, D)
        k, v = pairs
        n_before = k.shape[1] - t
        if cos is not None:
            q = rotate(q, cos[L : L + t], sin[L : L + t], plan.layout)
            rows = slice(L - n_before, L + t)
            k = rotate(k, cos[rows], sin[rows], plan.layout)
        yield _Tile(slice(start, stop), n, n_before, q, k, v)


def _weights(plan: _Plan, tile: _Tile) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield some queries of each span, the keys that they see, and their weights (N, R b, s)."""
    N, R, t, D = tile.queries.shape
    block = min(ATTENTION_BLOCK, t)
    while block > _LEAST_BLOCK and N * R * block * tile.keys.shape[1] > 4 * _most(tile.keys):
        block //= 2
    ones = torch.ones(block, block, dtype=torch.bool, device=tile.keys.device)
    later, earlier = ones.triu(1), ones.tril(-1)
    for start in range(0, t, block):
        stop = min(start + block, t)
        b = stop - start
        end = tile.n_before + stop
        first = 0 if plan.window is None else tile.n_before + start - plan.window + 1
        seen = slice(max(0, first), end)
        q = tile.queries[:, :, start:stop].reshape(N, R * b, D)
        scores = torch.bmm(q * D**-0.5, tile.keys[:, seen].mT)  # (N, R b, s)
        edges = scores.view(N, R, b, -1)
        edges[..., -b:].masked_fill_(later[:b, :b], -torch.inf)
        if plan.window is not None and seen.start - first < b:
            cut = seen.start - first  # columns that would be before the first key
            edges[..., : b - cut].masked_fill_(earlier[:b, cut:b], -torch.inf)
        yield slice(start, stop), seen, softmax(scores)


def _most(like: Tensor) -> int:
    return _AT_ONCE_ON_GPU if like.is_cuda else _AT_ONCE


def _divided(x: Tensor, dim: int, n: int) -> Tensor:
    """View a dimension as `n` equal parts."""
    return x.view(*x.shape[:dim], n, -1, *x.shape[dim + 1 :])


def _in_spans(x: Tensor, tile: _Tile) -> Tensor:
    """View the positions of the spans of a tile: (G B, R, n, t, D)."""
    return _divided(x[:, :, tile.spans], 2, tile.n_spans)


def _by_span(x: Float[Tensor, "GB R n t D"]) -> Float[Tensor, "N R t D"]:
    return x.transpose(1, 2).flatten(0, 1)


def _by_head(x: Float[Tensor, "N R t D"], tile: _Tile) -> Float[Tensor, "GB R n t D"]:
    return x.view(-1, tile.n_spans, *x.shape[1:]).transpose(1, 2)


def _dropout(plan: _Plan, like: Tensor) -> Any:
    """Return a function that draws the next mask, or None."""
    if not plan.dropout:
        return None
    generator = torch.Generator(like.device).manual_seed(plan.seed)
    keep = 1.0 - plan.dropout
    return lambda x: torch.empty_like(x).bernoulli_(keep, generator=generator).div_(keep)


# A compiler would unroll the loop over parts.
_apply: Callable[..., Tensor] = not_compiled(_RecomputedAttention.apply)


def recomputed_attention(
    queries: Float[Tensor, "B H T D"],
    keys: Float[Tensor, "B G T D"],
    values: Float[Tensor, "B G T D"],
    before: tuple[Tensor, Tensor] | None = None,
    *,
    window: int | None = None,
    rotary: tuple[Tensor, Tensor] | None = None,
    layout: RotaryLayout = "half",
    dropout: float | int = 0.0,
) -> Float[Tensor, "B H T D"]:
    """Compute causal attention without storing its weights for the backward pass.

    Args:
        queries: What each of T positions looks for.
        keys: What each of these positions offers.
        values: What each of these positions passes on.
        before: Keys and values of earlier positions, (B, G, P, D) each, the last P of them; with a
            window, P is below it.
        window: Number of positions that a query sees, itself included. None: all.
        rotary: Cosines and sines of 2 `span_of(window)` positions: queries and keys are rotated by
            their distance, keys of earlier positions too. None: no rotation.
        layout: Which dimensions the rotation pairs; see `rotary_tables`.
        dropout: Fraction of the attention weights that are set to zero.
    """
    B, H, T, D = queries.shape
    G = keys.shape[1]
    P = 0 if before is None else before[0].shape[2]
    # With its keys before, a single span sees at most this window.
    bound = None if window is None or (rotary is None and window >= P + T) else window
    assert bound is not None or rotary is None
    assert bound is None or bound > P
    plan = _Plan(
        window=bound,
        span=T if bound is None else span_of(bound),
        layout=layout,
        dropout=dropout,
        seed=int(torch.randint(2**62, ())) if dropout else 0,
    )

    def by_head(x: Tensor) -> Tensor:
        return x.transpose(0, 1).reshape(G * B, -1, D)

    # Layers store the heads first in memory; in this order the reshape copies nothing.
    q = queries.view(B, G, H // G, T, D).transpose(0, 1).reshape(G * B, H // G, T, D)
    earlier = (None, None) if before is None or not P else tuple(map(by_head, before))
    mixed = _apply(plan, q, by_head(keys), by_head(values), *earlier, *(rotary or (None, None)))
    return mixed.view(G, B, H // G, T, D).transpose(0, 1).reshape(B, H, T, D)
