"""Causal self-attention, twice: the formula of the paper, and a fast path with the same results.

Each position has a query (what it looks for), a key (what it offers) and a value (what it passes
on). The scores of a query against the keys up to its own position are turned into weights that sum
to one, and the output is the weighted sum of the values.

`attention_formula` is written to be read; the model runs `attention_fused`, which takes torch's
kernel (`scaled_dot_product_attention`) or plain products. Tests check that all have the same values
and gradients.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from groundup.base.errors import UserError
from groundup.model.count import ATTENTION_BLOCK, FEW_POSITIONS
from groundup.model.layers import softmax


def causal_mask(
    n_queries: int,
    n_keys: int,
    device: torch.device | None = None,
    *,
    window: int | None = None,
) -> Tensor:
    """Boolean causal mask: True where key position <= query position.

    The queries are the last `n_queries` of the `n_keys` positions, as they are with a KV cache.
    With a sliding window a query sees that many positions at most, itself included.

    >>> causal_mask(2, 3).int().tolist()
    [[1, 1, 0], [1, 1, 1]]
    >>> causal_mask(2, 3, window=2).int().tolist()
    [[1, 1, 0], [0, 1, 1]]
    """
    ones = torch.ones(n_queries, n_keys, dtype=torch.bool, device=device)
    mask = ones.tril(diagonal=n_keys - n_queries)  # (T, S)
    return mask if window is None else mask.triu(diagonal=n_keys - n_queries - window + 1)


def attention_weights(
    queries: Float[Tensor, "B H T D"],
    keys: Float[Tensor, "B G S D"],
    *,
    window: int | None = None,
) -> Float[Tensor, "B H T S"]:
    """Attention weights: softmax(Q K^T / sqrt(D)) with the causal mask.

    G key heads are shared by H query heads in groups of H/G (grouped-query attention). G = H is
    multi-head attention. See `causal_mask` for the window.
    """
    T, S, D = queries.shape[2], keys.shape[2], queries.shape[3]
    keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)  # (B, H, S, D)
    scores = queries @ keys.transpose(-2, -1) / D**0.5  # (B, H, T, S)
    # The softmax turns minus infinity into a weight of exactly zero: no future token leaks in.
    mask = causal_mask(T, S, scores.device, window=window)
    return softmax(scores.masked_fill(~mask, float("-inf")))


def attention_formula(
    queries: Float[Tensor, "B H T D"],
    keys: Float[Tensor, "B G S D"],
    values: Float[Tensor, "B G S D"],
    *,
    window: int | None = None,
) -> Float[Tensor, "B H T D"]:
    """Attention(Q, K, V) = softmax(Q K^T / sqrt(D)) V, step by step.

    Source: "Attention Is All You Need", equation 1; the mask is its section 3.2.3; the sliding
        window is that of "Longformer: The Long-Document Transformer", section 3.1.
    """
    values = values.repeat_interleave(queries.shape[1] // values.shape[1], dim=1)  # (B, H, S, D)
    return attention_weights(queries, keys, window=window) @ values


def scaled_dot_product_attention(
    queries: Float[Tensor, "*N T D"],
    keys: Float[Tensor, "*M S D"],
    values: Float[Tensor, "*M S E"],
    mask: Shaped[Tensor, "*#K T S"] | None = None,
    *,
    causal: bool = False,
    dropout: float | int = 0.0,
) -> Float[Tensor, "*N T E"]:
    """Compute softmax(Q K^T / sqrt(D)) V over any leading dimensions, with torch's fused kernel.

    Args:
        queries: What each of T positions looks for. With a dimension of heads before T, there may
            be a multiple of the number of key heads (grouped-query attention).
        keys: What each of S positions offers.
        values: What each of S positions passes on; their width E may differ from D.
        mask: Boolean, True where a query may attend to a key; it is broadcast to (..., T, S). A
            query that may attend to no key gets zeros. None: all keys.
        causal: Also mask the keys after each query; the queries are the last T of S positions.
        dropout: Fraction of the attention weights that are set to zero.

    Raises:
        UserError: The mask is not boolean.

    Source: "Attention Is All You Need", equation 1, computed as in "FlashAttention: Fast and
        Memory-Efficient Exact Attention", algorithm 1.

    >>> ones = torch.ones(3, 2)
    >>> scaled_dot_product_attention(ones, ones, torch.tensor([[0.0], [2.0], [4.0]])).tolist()
    [[2.0], [2.0], [2.0]]
    """
    T, S = queries.shape[-2], keys.shape[-2]
    if mask is not None and mask.dtype != torch.bool:
        raise UserError(
            f"The attention mask is of type {mask.dtype}. A boolean mask is expected, True where a "
            "query may attend to a key."
        )
    # torch's is_causal aligns the diagonal at the top left, which is right for T = S only. With a
    # cache the mask is explicit; a single query sees every key and needs no mask.
    by_kernel = causal and T == S and mask is None
    if causal and T > 1 and not by_kernel:
        visible = causal_mask(T, S, queries.device)
        mask = visible if mask is None else mask & visible
    shares_keys = queries.ndim > 2 and queries.shape[-3] != keys.shape[-3]
    if shares_keys and queries.is_cuda and (queries.dtype == torch.float32 or mask is not None):
        # The kernel for these cannot share keys, and torch would store all scores instead.
        n_each = queries.shape[-3] // keys.shape[-3]
        keys, values = (x.repeat_interleave(n_each, dim=-3) for x in (keys, values))
        shares_keys = False
    return F.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=by_kernel and T > 1,
        enable_gqa=shares_keys,
    )


def attention_fused(
    queries: Float[Tensor, "B H T D"],
    keys: Float[Tensor, "B G S D"],
    values: Float[Tensor, "B G S D"],
    *,
    window: int | None = None,
    dropout: float | int = 0.0,
) -> Float[Tensor, "B H T D"]:
    """Compute the same as `attention_formula` by whichever kernel trains faster."""
    T, S = queries.shape[2], keys.shape[2]
    if window is not None and window >= S:
        window = None
    if T == S and by_blocks(T, queries.dtype, queries.device, dropout):
        return attention_blocks(queries, keys, values, window=window, dropout=dropout)
    if window is None:
        return scaled_dot_product_attention(queries, keys, values, causal=True, dropout=dropout)
    n_seen = min(S, T + window - 1)  # keys that any of the queries sees
    keys, values = keys[:, :, S - n_seen :], values[:, :, S - n_seen :]
    mask = causal_mask(T, n_seen, queries.device, window=window)
    return scaled_dot_product_attention(queries, keys, values, mask, dropout=dropout)


def attention_of_the_last(
    queries: Float[Tensor, "B H t D"],
    keys: Float[Tensor, "B G S D"],
    values: Float[Tensor, "B G S D"],
    *,
    dropout: float | int = 0.0,
) -> Float[Tensor, "B H t D"]:
    """Attend from the last t of S positions.

    Flash attention, on a GPU, aligns them at the end without a mask of t x S.
    """
    from torch.nn.attention.bias import causal_lower_right  # which imports torch's compiler

    mixed: Tensor = F.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=causal_lower_right(queries.shape[2], keys.shape[2]),
        dropout_p=dropout,
        enable_gqa=queries.shape[1] != keys.shape[1],
    )
    return mixed


def by_blocks(
    context_length: int, dtype: torch.dtype, device: torch.device, dropout: float | int = 0.0
) -> bool:
    """Whether `attention_blocks` trains faster than torch's fused kernel.

    On a CPU the kernel's backward pass has no fast bfloat16 products. In float32 it takes twice
    the time of plain products at 64 positions, and the same time at 1,024. It has no dropout: torch
    would store all scores of T x T positions three times.
    """
    few = context_length <= FEW_POSITIONS
    return device.type == "cpu" and (dtype == torch.bfloat16 or few or dropout > 0)


def attention_blocks(
    queries: Float[Tensor, "B H T D"],
    keys: Float[Tensor, "B G T D"],
    values: Float[Tensor, "B G T D"],
    *,
    window: int | None = None,
    visible_from: Int[Tensor, "B T"] | None = None,
    dropout: float | int = 0.0,
    block: int = ATTENTION_BLOCK,
) -> Float[Tensor, "B H T D"]:
    """Compute attention by matrix products of `block` queries and the keys visible to them.

    Without gradients it stores `block` rows of attention weights at a time; training stores all
    of them for the backward pass. `visible_from` is the first key that each query sees, where rows
    hold several documents.
    """
    B, H, T, D = queries.shape
    if keys.shape[1] < H:
        keys, values = (x.repeat_interleave(H // x.shape[1], dim=1) for x in (keys, values))
    # `Attention` stores the heads first in memory; in this order the reshape copies nothing.
    queries, keys, values = (
        x.transpose(0, 1).reshape(H * B, T, D) for x in (queries, keys, values)
    )  # (H B, T, D) each
    output: Tensor = _Blocks.apply(  # type: ignore[no-untyped-call]
        queries, keys, values, window, visible_from, dropout, block
    )  # (H B, T, D)
    return output.view(H, B, T, D).transpose(0, 1)  # (B, H, T, D)


class _Blocks(torch.autograd.Function):
    """Attention in blocks of queries; rows of the leading dimension are heads of sequences.

    Autograd would fill a tensor of zeros with the gradient of each block's keys and values, and add
    all of them. Here each product adds to the gradient directly.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        window: int | None,
        visible_from: Tensor | None,
        dropout: float,
        block: int,
    ) -> Tensor:
        N, T, D = queries.shape
        output = torch.empty_like(queries)  # (N, T, D)
        saved: list[Tensor] = []
        ctx.blocks = []
        for start in range(0, T, block):
            stop = min(start + block, T)
            # Keys after `stop`, and those before every window, are masked for the whole block, so
            # they are left out of the product.
            first = 0 if window is None else max(0, start - window + 1)
            mask = torch.full((stop - start, stop - first), -torch.inf, dtype=queries.dtype)
            mask = mask.triu(start + 1 - first)
            if window is not None:
                hidden = ~causal_mask(stop - start, stop - first, window=window)
                mask = mask.masked_fill(hidden, -torch.inf)
            if visible_from is not None:
                earlier = torch.arange(first, stop) < visible_from[:, start:stop, None]
                mask = mask.masked_fill(earlier, -torch.inf)
                mask = mask.repeat(N // len(mask), 1, 1)  # (N, block, keys)
            scores = torch.baddbmm(
                mask, queries[:, start:stop], keys[:, first:stop].mT, alpha=D**-0.5
            )  # (N, block, stop - first)
            weights = softmax(scores)
            noise = [F.dropout(torch.ones_like(weights), dropout)] if dropout else []
            torch.bmm(_product(weights, *noise), values[:, first:stop], out=output[:, start:stop])
            if any(ctx.needs_input_grad):
                ctx.blocks.append((slice(start, stop), slice(first, stop)))
                saved += [weights, *noise]
        ctx.window = window
        ctx.save_for_backward(queries, keys, values, *saved)
        return output

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, *saved = ctx.saved_tensors
        n_each, alpha = len(saved) // len(ctx.blocks), queries.shape[-1] ** -0.5
        d_queries, d_keys, d_values = (torch.empty_like(x) for x in (queries, keys, values))
        beta = 0.0  # the last block sees all keys: it writes, and the others add
        if ctx.window is not None:
            beta = 1.0
            d_keys.zero_()
            d_values.zero_()
        for i, (rows, seen) in reversed(list(enumerate(ctx.blocks))):
            weights, *noise = saved[i * n_each : (i + 1) * n_each]  # (N, block, keys)
            d_output = outer[:, rows]
            d_weights = _product(d_output @ values[:, seen].mT, *noise)
            d_scores = torch.ops.aten._softmax_backward_data(d_weights, weights, -1, weights.dtype)
            d_values[:, seen].baddbmm_(_product(weights, *noise).mT, d_output, beta=beta)
            d_keys[:, seen].baddbmm_(d_scores.mT, queries[:, rows], beta=beta, alpha=alpha)
            d_queries[:, rows].baddbmm_(d_scores, keys[:, seen], beta=0.0, alpha=alpha)
            beta = 1.0
        return d_queries, d_keys, d_values, None, None, None, None


def _product(x: Tensor, *noise: Tensor) -> Tensor:
    """x, times the factors of the dropout, if there are any."""
    return x * noise[0] if noise else x
