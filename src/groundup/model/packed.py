"""Packed rows: several documents one after the other, each computed as if it were alone.

Padding costs as much as text. A packed row has none: positions restart with each document, and
attention does not cross from one document to the next. No mask of N x N positions is stored. A
batch of B rows of T tokens with several documents each is one packed row of B T tokens.

On a CPU documents of similar lengths are computed together, and nothing is computed between
documents; on a GPU flash attention for variable lengths does so. Where shapes must not depend on
the documents, as in a compiled program on a CPU, the other documents of a row are masked.
"""

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from groundup.base.errors import UserError
from groundup.model.attention import (
    attention_blocks,
    attention_fused,
    by_blocks,
    scaled_dot_product_attention,
)
from groundup.model.count import FEW_POSITIONS
from groundup.model.grouped_attention import Grouping, group, grouped_attention
from groundup.model.recomputed_attention import recomputed_attention


@dataclass(frozen=True)
class Documents:
    """Where the documents of a packed row are.

    >>> Documents.of(torch.tensor([2, 3])).positions.tolist()
    [0, 1, 0, 1, 2]
    """

    counts: Int[Tensor, " n"]
    """Number of tokens of each document, in order; 0 stands for no document."""
    positions: Int[Tensor, " N"]
    """Position of each token in its document."""
    ends: Int[Tensor, " n1"]
    """0, and the number of tokens up to the end of each document, int32."""
    longest: int
    """No document has more tokens."""
    row_length: int | None = None
    """If the documents are those of rows of this length, which fit in the context: the length."""

    groupings: dict[tuple[int, int], Grouping] = field(default_factory=dict, compare=False)
    """Computed when first needed, and used by all layers."""

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Number of tokens of each document, without zeros. On a GPU, reading it waits."""
        return tuple(n for n in self.counts.tolist() if n)

    def grouping(self, n_heads: int, n_kv_heads: int) -> Grouping:
        """Return the groups of documents of similar lengths."""
        shape = n_heads, n_kv_heads
        if shape not in self.groupings:
            self.groupings[shape] = group(self.lengths, *shape)
        return self.groupings[shape]

    @classmethod
    def of(
        cls,
        lengths: Tensor | Sequence[int],
        n_tokens: int | None = None,
        row_length: int | None = None,
    ) -> "Documents":
        """Read the lengths of the documents, in any shape; 0 stands for no document.

        Args:
            lengths: The lengths. On a GPU those of rows are not read, because the step would have
                to wait for them.
            n_tokens: Their sum. None: add them up.
            row_length: See the field.

        Raises:
            UserError: There is no document, a length is negative, or the sum is another.
        """
        lengths = torch.as_tensor(lengths).flatten()
        if row_length is None or not _shapes_stay(lengths):
            found = [n for n in lengths.tolist() if n]
            if not found or min(found) < 0:
                raise UserError(
                    f"The lengths of the documents are {found}. Positive numbers are expected."
                )
            if n_tokens is not None and sum(found) != n_tokens:
                raise UserError(
                    f"There are {n_tokens:,} token ids, and the lengths of the documents add up to "
                    f"{sum(found):,}. The same number is expected."
                )
            lengths = torch.tensor(found, device=lengths.device)
            n_tokens, longest = sum(found), max(found)
        else:
            assert n_tokens is not None
            longest = row_length
        stops = lengths.cumsum(0)  # (n,)
        ends = F.pad(stops, (1, 0))  # (n + 1,)
        places = torch.arange(n_tokens, device=lengths.device)
        # Not in a slice of `ends`, which the compiler of torch 2.11 refuses for a GPU.
        document = torch.searchsorted(stops, places, right=True)  # (N,)
        return cls(lengths, places - ends[document], ends.to(torch.int32), longest, row_length)


def _shapes_stay(tensor: Tensor) -> bool:
    """Whether no shape may depend on values: in a compiled program, and on a GPU."""
    return tensor.device.type != "cpu" or torch.compiler.is_compiling()


def without_padding(
    ids: Int[Tensor, "B T"],
    targets: Int[Tensor, "B T"],
    lengths: Int[Tensor, "B D"],
    *,
    keep_rows: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Remove the padding after the documents of each row: ids (1, N), targets (1, N), lengths.

    Where rows must be kept, as in a compiled program, the padding of a row becomes a document.

    Args:
        ids: Token ids.
        targets: The targets, -100 at the padding.
        lengths: Number of tokens of each document of each row; 0 stands for no document.
        keep_rows: Keep the rows.
    """
    ends = lengths.sum(dim=1, keepdim=True)  # (B, 1)
    if keep_rows or _shapes_stay(ids):
        return ids, targets, torch.cat((lengths, ids.shape[1] - ends), dim=1)
    if bool((ends == ids.shape[1]).all()):
        return ids, targets, lengths
    is_text = torch.arange(ids.shape[1]) < ends  # (B, T)
    return ids[is_text][None], targets[is_text][None], lengths


def attention_packed(
    queries: Float[Tensor, "1 H N D"],
    keys: Float[Tensor, "1 G N D"],
    values: Float[Tensor, "1 G N D"],
    documents: Documents,
    *,
    window: int | None = None,
    dropout: float | int = 0.0,
    recompute: bool = False,
) -> Float[Tensor, "1 H N D"]:
    """Compute causal attention within each document, by whichever kernel is fastest.

    With `recompute`, long documents do not store their attention weights.
    """
    longest = documents.longest
    if window is not None and window >= longest:
        window = None
    if not dropout and has_variable_lengths(queries.device, queries.dtype, queries.shape[-1]):
        return flash(queries, keys, values, documents.ends, longest, window)
    stays = _shapes_stay(queries)
    recompute = recompute and longest > FEW_POSITIONS
    in_groups = by_blocks(longest, queries.dtype, queries.device, dropout) and not recompute
    if not dropout and not stays and in_groups:
        grouping = documents.grouping(queries.shape[1], keys.shape[1])
        return grouped_attention(queries[0], keys[0], values[0], grouping, window=window)[None]
    if documents.row_length is not None and (stays or (dropout and not recompute)):
        return _by_rows(queries, keys, values, documents, window, dropout)
    parts = (torch.split(x, list(documents.lengths), dim=2) for x in (queries, keys, values))
    attend = recomputed_attention if recompute else attention_fused
    alone = [attend(*each, window=window, dropout=dropout) for each in zip(*parts, strict=True)]
    return torch.cat(alone, dim=2)


def _by_rows(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    documents: Documents,
    window: int | None,
    dropout: float | int,
) -> Float[Tensor, "1 H N D"]:
    """Mask the other documents of each row: the shapes do not depend on the documents."""
    assert documents.row_length is not None
    T = documents.row_length
    queries, keys, values = (
        x[0].reshape(x.shape[1], -1, T, x.shape[3]).transpose(0, 1) for x in (queries, keys, values)
    )  # (B, H, T, D) each
    places = torch.arange(T, device=queries.device)
    first = places - documents.positions.view(-1, T)  # (B, T): where its document begins
    if window is not None:
        first = first.maximum(places - window + 1)
    if by_blocks(T, queries.dtype, queries.device, dropout):
        mixed = attention_blocks(queries, keys, values, visible_from=first, dropout=dropout)
    else:
        visible = (places <= places[:, None]) & (places >= first[..., None])  # (B, T, T)
        mixed = scaled_dot_product_attention(
            queries, keys, values, visible[:, None], dropout=dropout
        )
    return mixed.transpose(0, 1).flatten(1, 2)[None]


def has_variable_lengths(device: torch.device, dtype: torch.dtype, d_head: int) -> bool:
    """Whether torch's flash attention for documents of variable lengths computes such queries."""
    fits = d_head % 8 == 0 and d_head <= 256
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16) or not fits:
        return False
    return variable_length_kernel() is not None


_found_kernel: list[Callable[..., Any] | None] = []


def variable_length_kernel() -> Callable[..., Any] | None:
    """Return torch's flash attention for documents of variable lengths. None: it has none.

    GPUs before Ampere cannot run it. The first call inspects the signature, which a program that is
    compiled cannot do.
    """
    if not _found_kernel:
        _found_kernel.append(None)
        if torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0):
            return None
        with suppress(ImportError):
            from torch.nn.attention.varlen import varlen_attn  # new in torch 2.10

            names = inspect.signature(varlen_attn).parameters.keys()
            if "enable_gqa" in names:
                _found_kernel[0] = varlen_attn
            elif "window_size" in names:  # torch 2.11
                _found_kernel[0] = _with_repeated_heads(varlen_attn)
    return _found_kernel[0]


def _with_repeated_heads(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Give each query head its own copy of the keys and values: this kernel cannot share them."""

    def attend(
        q: Tensor, k: Tensor, v: Tensor, *positions: Any, enable_gqa: bool, **more: Any
    ) -> Any:
        if enable_gqa:
            k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
        return kernel(q, k, v, *positions, **more)

    return attend


def flash(
    queries: Float[Tensor, "1 H N D"],
    keys: Float[Tensor, "1 G N D"],
    values: Float[Tensor, "1 G N D"],
    ends: Tensor,
    longest: int,
    window: int | None,
) -> Float[Tensor, "1 H N D"]:
    """Compute causal attention within each document with `variable_length_kernel`.

    Args:
        queries: Queries of all documents, one after the other.
        keys: Their keys.
        values: Their values.
        ends: 0, and the number of tokens up to the end of each document, int32.
        longest: No document has more tokens.
        window: Number of positions that a query sees, itself included. None: all.
    """
    kernel = variable_length_kernel()
    assert kernel is not None
    q, k, v = (x[0].transpose(0, 1).contiguous() for x in (queries, keys, values))  # (N, heads, D)
    mixed: Any = kernel(
        q,
        k,
        v,
        ends,
        ends,
        longest,
        longest,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=keys.shape[1] != queries.shape[1],
    )
    result: Tensor = mixed.transpose(0, 1)[None]
    return result
