"""Multi-head attention as a layer: projections, heads, and the attention between positions."""

from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from groundup.base.errors import UserError
from groundup.model.attention import (
    attention_fused,
    attention_of_the_last,
    causal_mask,
    scaled_dot_product_attention,
)
from groundup.model.config import RotaryScaling
from groundup.model.count import LONG
from groundup.model.key_buffer import KeyState
from groundup.model.layers import Linear
from groundup.model.packed import Documents, attention_packed
from groundup.model.recomputed_attention import recomputed_attention
from groundup.model.rotary import RotaryLayout, rotary_tables, rotate
from groundup.model.state import AnyLayerState, LayerState
from groundup.model.windowed import windowed_attention


@runtime_checkable
class KeyValueCache(Protocol):
    """What the model needs of a KV cache."""

    states: dict[int, LayerState]
    """States of the layers that store no keys and values (gated delta rule), by their number."""

    @property
    def length(self) -> int:
        """Number of stored positions."""

    @property
    def ids(self) -> Tensor:
        """Token ids (B, S) at these positions."""

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new `keys` and `values` (B, G, T, D) of a layer; return those of all positions.

        Of a layer with a window, positions that no query sees may be missing.
        """

    def advance(self, ids: Tensor) -> None:
        """Add the new token ids (B, T), after every layer has stored their positions."""


class MultiHeadAttention(nn.Module):
    """Self-attention of several heads, with an optional mask, rotation and normalization.

    One matrix computes queries, keys and values. The rows of its weight are those of all query
    heads, then all key heads, then all value heads.

    Args:
        d_in: Width of the input.
        n_heads: Number of heads.
        d_out: Width of the output. None: `d_in`.
        n_kv_heads: Number of key and value heads, each shared by a group of query heads. None:
            `n_heads`.
        d_head: Width of a head. None: the width of the output / `n_heads`.
        causal: No position attends to a later one.
        window: Number of positions that a position attends to, itself included. None: all.
        relative: Rotate by distances, as `windowed_attention` does, and do not store attention
            weights for the backward pass. Needs a window.
        recompute: Without a window, do not store the attention weights of a long text either.
        qkv_bias: Add a bias to queries, keys and values.
        bias: Add a bias after the output projection.
        qk_norm: Normalize each query and key, by "rms" or "layer" norm.
        norm_eps: Constant that keeps this norm from dividing by zero.
        rotary_layout: Which dimensions the rotation pairs; see `rotary_tables`.
        dropout: Fraction of attention weights and of outputs that are set to zero in training.
        layer: Number of this layer in the KV cache.
        initialize: See `Linear`.

    Raises:
        UserError: The width of the output is not divisible by the number of heads, or there is a
            window without the causal mask.

    Source: "Attention Is All You Need", section 3.2.2.

    >>> attention = MultiHeadAttention(6, n_heads=2, d_out=4)
    >>> attention(torch.ones(1, 3, 6)).shape
    torch.Size([1, 3, 4])
    """

    def __init__(
        self,
        d_in: int,
        n_heads: int,
        *,
        d_out: int | None = None,
        n_kv_heads: int | None = None,
        d_head: int | None = None,
        causal: bool = True,
        window: int | None = None,
        relative: bool = False,
        recompute: bool = False,
        qkv_bias: bool = False,
        bias: bool = False,
        qk_norm: Literal["rms", "layer"] | None = None,
        norm_eps: float = 1e-6,
        rotary_layout: RotaryLayout = "half",
        dropout: float | int = 0.0,
        layer: int = 0,
        initialize: bool = True,
    ) -> None:
        super().__init__()
        d_out = d_in if d_out is None else d_out
        if d_head is None and d_out % n_heads:
            raise UserError(
                f"The width {d_out} is not divisible by {n_heads} heads. Choose n_heads so that it "
                "divides the width, or set d_head."
            )
        if window is not None and not causal:
            raise UserError("A sliding window is causal. causal=True is expected.")
        H, D = n_heads, d_out // n_heads if d_head is None else d_head
        G = n_heads if n_kv_heads is None else n_kv_heads
        self.layer = layer
        self.causal, self.window = causal, window
        self.relative, self.recompute = relative, recompute
        self.n_heads, self.n_kv_heads, self.d_head = H, G, D
        self.rotary_layout: RotaryLayout = rotary_layout
        self.norm, self.norm_eps = qk_norm, norm_eps
        self.dropout = dropout
        # One matrix product instead of three.
        self.qkv = Linear(d_in, (H + 2 * G) * D, bias=qkv_bias, initialize=initialize)
        self.out = Linear(H * D, d_out, bias=bias, initialize=initialize)
        self.query_gain = nn.Parameter(torch.ones(D)) if qk_norm else None
        self.key_gain = nn.Parameter(torch.ones(D)) if qk_norm else None

    @torch.no_grad()
    def look_back(
        self,
        rotary_base: float,
        generator: torch.Generator,
        scaling: RotaryScaling | None = None,
    ) -> None:
        """Initialize head h so that it attends to the token h + 1 positions back.

        All key biases have one direction; each query bias is the same vector, rotated back by the
        distance of its head. So the biases alone make the score highest at that distance. Only
        the pairs with high frequencies distinguish neighboring positions. The output projection
        starts orthogonal instead of zero. Training finds such heads without this, but it takes
        most of a short run.
        """
        H, G, D = self.n_heads, self.n_kv_heads, self.d_head
        n_pairs = max(1, D // 8)
        where = slice(n_pairs) if self.rotary_layout == "half" else slice(0, 2 * n_pairs, 2)
        length = 4.0 * D**0.5  # four times the contribution of the tokens
        direction = torch.zeros(D)
        direction[where] = length / n_pairs**0.5
        direction[where][1::2] *= -1.0  # a mean near zero, because LayerNorm subtracts the mean
        cos, sin = rotary_tables(H + 1, D, rotary_base, self.rotary_layout, scaling)
        # A negative sine rotates backward: head h by h + 1 positions.
        rotated_back = rotate(direction.expand(H, D), cos[1:], -sin[1:], self.rotary_layout)
        biases = self.qkv.bias.view(H + 2 * G, D)
        biases[:H] = rotated_back
        biases[H : H + G] = direction
        nn.init.orthogonal_(self.out.weight, generator=generator)

    def project(
        self,
        x: Float[Tensor, "B T C"],
        rotary: tuple[Tensor, Tensor] | None,
    ) -> tuple[Float[Tensor, "B H T D"], Float[Tensor, "B G T D"], Float[Tensor, "B G T D"]]:
        """Compute queries, keys and values per head, with QK norm and rotation if configured."""
        H, G = self.n_heads, self.n_kv_heads
        heads = self.qkv(x).unflatten(-1, (H + 2 * G, self.d_head))  # (B, T, H + 2G, D)
        heads = heads.permute(2, 0, 1, 3)  # (H + 2G, B, T, D)
        if not x.is_cuda:
            # Contiguous, so that the following operations read each head in order. The attention
            # of a GPU reads any order, and a copy takes longer than it saves.
            heads = heads.contiguous()
        queries_keys, values = heads.split((H + G, G))
        if self.query_gain is not None and self.key_gain is not None:
            pairs = zip(queries_keys.split((H, G)), (self.query_gain, self.key_gain), strict=True)
            queries_keys = torch.cat([self.normalize_heads(x, gain) for x, gain in pairs])
        if rotary is not None:
            queries_keys = rotate(queries_keys, *rotary, self.rotary_layout)  # (H + G, B, T, D)
        queries, keys = queries_keys.split((H, G))
        return queries.transpose(0, 1), keys.transpose(0, 1), values.transpose(0, 1)

    def normalize_heads(
        self, x: Float[Tensor, "N B T D"], gain: Float[Tensor, " D"]
    ) -> Float[Tensor, "N B T D"]:
        """Normalize the vector of each head with the norm of the config (QK norm).

        Source: "Query-Key Normalization for Transformers", section 3, with RMSNorm as in Qwen3.
        """
        norm = F.rms_norm if self.norm == "rms" else F.layer_norm
        return norm(x, (self.d_head,), gain.to(x.dtype), eps=self.norm_eps)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        rotary: tuple[Tensor, Tensor] | None = None,
        cache: KeyValueCache | None = None,
        mask: Shaped[Tensor, "*#K T S"] | None = None,
        documents: Documents | None = None,
    ) -> Float[Tensor, "B T E"]:
        """Attend to the visible positions, and project to the width of the output.

        Args:
            x: The input.
            rotary: Cosines and sines of the positions, (T, D) each. None: no rotation.
            cache: Holds the keys and values of earlier positions, and gets those of `x`.
            mask: Boolean, True where a position may attend to another, in addition to the causal
                mask; it is broadcast to (B, H, T, S).
            documents: The documents of a packed row, which do not see each other.
        """
        if self.relative and documents is None:
            assert mask is None
            return self._output(self._relative(x, rotary, cache))
        queries, keys, values = self.project(x, rotary)  # (B, H, T, D), (B, G, T, D), (B, G, T, D)
        if cache is not None:
            keys, values = cache.append(self.layer, keys, values)  # (B, G, S, D) each
        T, S = queries.shape[2], keys.shape[2]
        dropout = self.dropout if self.training else 0.0
        if documents is not None:
            assert self.causal
            assert mask is None
            assert cache is None
            mixed = attention_packed(
                queries,
                keys,
                values,
                documents,
                window=self.window,
                dropout=dropout,
                recompute=self.relative or self.recompute,
            )  # (1, H, N, D)
        elif self.recompute and self.causal and mask is None and _is_long(queries, S, dropout):
            before = (keys[:, :, : S - T], values[:, :, : S - T])
            mixed = recomputed_attention(
                queries, keys[:, :, S - T :], values[:, :, S - T :], before, dropout=dropout
            )
        elif self.causal and mask is None:
            mixed = attention_fused(
                queries, keys, values, window=self.window, dropout=dropout
            )  # (B, H, T, D)
        else:
            if self.window is not None and mask is not None:
                mask = mask & causal_mask(T, S, x.device, window=self.window)
            mixed = scaled_dot_product_attention(
                queries, keys, values, mask, causal=self.causal, dropout=dropout
            )  # (B, H, T, D)
        return self._output(mixed)  # (B, T, E)

    def segment(
        self,
        x: Float[Tensor, "B T C"],
        rotary: tuple[Tensor, Tensor] | None,
        state: AnyLayerState | None,
    ) -> tuple[Float[Tensor, "B T E"], AnyLayerState]:
        """Attend to the positions of a segment and to those before; see `groundup.model.state`.

        Args:
            x: The input of the segment.
            rotary: As in `forward`.
            state: Keys and values of the positions before. None: the segment begins the text.
        """
        assert self.causal
        queries, keys, values = self.project(x, None if self.relative else rotary)
        dropout = self.dropout if self.training else 0.0
        if isinstance(state, KeyState):
            mixed, after = state.attend(queries, keys, values, dropout=dropout)
            return self._output(mixed), after
        if self.relative:
            mixed = self._in_window(queries, keys, values, state, rotary)
        elif state is None and not _is_long(queries, queries.shape[2], dropout):
            mixed = attention_fused(queries, keys, values, window=self.window, dropout=dropout)
        else:
            mixed = _attention_after(queries, keys, values, state, self.window, dropout)
        if state is not None:
            keys, values = torch.cat((state[0], keys), 2), torch.cat((state[1], values), 2)
        if self.window is not None:
            # Copies, because a view would keep all keys of the segment in memory.
            first = max(0, keys.shape[2] - self.window + 1)
            keys, values = keys[:, :, first:].clone(), values[:, :, first:].clone()
        return self._output(mixed), (keys, values)

    def _relative(
        self,
        x: Float[Tensor, "B T C"],
        rotary: tuple[Tensor, Tensor] | None,
        cache: KeyValueCache | None,
    ) -> Float[Tensor, "B H T D"]:
        """Attend in a window. A cache has the keys without rotation."""
        queries, keys, values = self.project(x, None)
        before = None
        if cache is not None:
            all_keys, all_values = cache.append(self.layer, keys, values)
            assert self.window is not None
            stop = all_keys.shape[2] - keys.shape[2]
            first = max(0, stop - self.window + 1)
            before = (all_keys[:, :, first:stop], all_values[:, :, first:stop])
        return self._in_window(queries, keys, values, before, rotary)

    def _in_window(
        self,
        queries: Float[Tensor, "B H T D"],
        keys: Float[Tensor, "B G T D"],
        values: Float[Tensor, "B G T D"],
        before: LayerState | None,
        rotary: tuple[Tensor, Tensor] | None,
    ) -> Float[Tensor, "B H T D"]:
        """Attend to the last positions, of which some are before these, and rotate by distances."""
        assert self.window is not None
        return windowed_attention(
            queries,
            keys,
            values,
            before,
            window=self.window,
            rotary=rotary,
            layout=self.rotary_layout,
            dropout=self.dropout if self.training else 0.0,
        )

    def _output(self, mixed: Float[Tensor, "B H T D"]) -> Float[Tensor, "B T E"]:
        mixed = mixed.transpose(1, 2).flatten(2)  # (B, T, H D)
        return F.dropout(self.out(mixed), self.dropout, self.training)


def _attention_after(
    queries: Float[Tensor, "B H T D"],
    keys: Float[Tensor, "B G T D"],
    values: Float[Tensor, "B G T D"],
    state: LayerState | None,
    window: int | None,
    dropout: float | int,
) -> Float[Tensor, "B H T D"]:
    """Attend to the positions of a segment and to those of its incoming state."""
    is_half = queries.dtype in (torch.bfloat16, torch.float16)
    if state is None or window is not None or not (queries.is_cuda and is_half):
        return recomputed_attention(queries, keys, values, state, window=window, dropout=dropout)
    keys, values = torch.cat((state[0], keys), dim=2), torch.cat((state[1], values), dim=2)
    return attention_of_the_last(queries, keys, values, dropout=dropout)


def _is_long(queries: Tensor, n_keys: int, dropout: float | int) -> bool:
    """Whether all attention weights would be stored, and would be many."""
    is_stored = queries.dtype == torch.bfloat16 or dropout > 0
    return queries.device.type == "cpu" and is_stored and n_keys > LONG
