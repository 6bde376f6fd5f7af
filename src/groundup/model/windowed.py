"""Attention in a window, with rotary positions by distance: exact at any length of the text.

On a GPU torch's flash attention for variable lengths computes it, where it has windows. Everywhere
else it is computed in parts (`recomputed_attention`).
"""

import logging

import torch
from jaxtyping import Float
from torch import Tensor

from groundup.model.packed import flash, has_variable_lengths
from groundup.model.recomputed_attention import recomputed_attention, span_of
from groundup.model.rotary import RotaryLayout, rotate

_log = logging.getLogger(__name__)
_told: list[bool] = []


def rotary_rows(window: int, n_new: int, like: Tensor, d_head: int) -> int:
    """Number of rows of rotary tables that `windowed_attention` needs for `n_new` positions.

    Args:
        window: Number of positions that a query sees.
        n_new: Number of queries.
        like: A tensor of the device and the format of the queries.
        d_head: Width of a head.
    """
    # The larger one with flash attention, because dropout needs the other.
    n_rows = 2 * span_of(window)
    by_flash = has_variable_lengths(like.device, like.dtype, d_head)
    return max(n_rows, window - 1 + n_new) if by_flash else n_rows


def windowed_attention(
    queries: Float[Tensor, "B H T D"],
    keys: Float[Tensor, "B G T D"],
    values: Float[Tensor, "B G T D"],
    before: tuple[Tensor, Tensor] | None,
    *,
    window: int,
    rotary: tuple[Tensor, Tensor] | None,
    layout: RotaryLayout,
    dropout: float | int = 0.0,
) -> Float[Tensor, "B H T D"]:
    """Attend to the last `window` positions, of which up to `window - 1` come before the first.

    Args:
        queries: Queries without rotation.
        keys: Keys without rotation.
        values: Values.
        before: Keys and values of the positions before, (B, G, P, D) each, P < window.
        window: Number of positions that a query sees, itself included.
        rotary: Cosines and sines of `rotary_rows` positions, counted from 0; only distances count.
            None: no rotation.
        layout: Which dimensions the rotation pairs; see `rotary_tables`.
        dropout: Fraction of the attention weights that are set to zero.
    """
    if not dropout and has_variable_lengths(queries.device, queries.dtype, queries.shape[-1]):
        return _by_flash(queries, keys, values, before, window, rotary, layout)
    if queries.is_cuda and not _told and not torch.compiler.is_compiling():
        _told.append(True)
        _log.warning(
            "Attention in a window is computed in parts: torch's flash attention with windows "
            "needs a newer torch, bfloat16, no dropout, and heads whose width is a multiple of 8 "
            "up to 256, and it is several times as fast."
        )
    return recomputed_attention(
        queries, keys, values, before, window=window, rotary=rotary, layout=layout, dropout=dropout
    )


def _by_flash(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    before: tuple[Tensor, Tensor] | None,
    window: int,
    rotary: tuple[Tensor, Tensor] | None,
    layout: RotaryLayout,
) -> Float[Tensor, "B H T D"]:
    B, H, T, D = queries.shape
    P = 0
    if before is not None:
        P = before[0].shape[2]
        keys, values = torch.cat((before[0], keys), dim=2), torch.cat((before[1], values), dim=2)
    if rotary is not None:
        cos, sin = rotary
        queries = rotate(queries, cos[P : P + T], sin[P : P + T], layout)
        keys = rotate(keys, cos[: P + T], sin[: P + T], layout)
    if P:  # as many queries as keys: how the kernel aligns fewer of them is not documented
        queries = torch.cat((queries.new_zeros(B, H, P, D), queries), dim=2)
    q, k, v = (x.transpose(0, 1).flatten(1, 2)[None] for x in (queries, keys, values))
    ends = torch.arange(B + 1, device=queries.device, dtype=torch.int32) * (P + T)
    mixed = flash(q, k, v, ends, P + T, window)  # (1, H, B (P + T), D)
    return mixed.view(H, B, P + T, D).transpose(0, 1)[:, :, P:]
