"""The adapters of layers: weights as the course passes them, computed by our layers.

The course computes rotary embeddings over pairs of neighbors (2i, 2i + 1), which is our layout
"interleaved".
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from groundup.base.errors import UserError
from groundup.cs336.weights import computed, rows
from groundup.model import layers
from groundup.model.attention import scaled_dot_product_attention
from groundup.model.multi_head import MultiHeadAttention
from groundup.model.rotary import RotaryEmbedding


def run_linear(
    d_in: int, d_out: int, weights: Tensor, in_features: Float[Tensor, "*N d_in"]
) -> Float[Tensor, "*N d_out"]:
    """Compute x W^T; `weights` is (d_out, d_in).

    Raises:
        UserError: The weights have another shape.
    """
    return computed(layers.Linear(d_in, d_out, bias=False, initialize=False), in_features, weights)


def run_embedding(
    vocab_size: int, d_model: int, weights: Tensor, token_ids: Int[Tensor, "*N"]
) -> Float[Tensor, "*N d_model"]:
    """Look up the rows of `weights`, which is (vocab_size, d_model).

    Raises:
        UserError: The weights have another shape.
        IndexError: An id is not in the vocabulary.
    """
    return computed(layers.Embedding(vocab_size, d_model, initialize=False), token_ids, weights)


def run_rmsnorm(
    d_model: int, eps: float, weights: Tensor, in_features: Float[Tensor, "*N d_model"]
) -> Float[Tensor, "*N d_model"]:
    """Divide by the root mean square and multiply by `weights`, which is (d_model,).

    Raises:
        UserError: The weights have another shape.
    """
    return computed(layers.RMSNorm(d_model, eps), in_features, weights)


def run_silu(in_features: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """Compute x * sigmoid(x)."""
    return layers.silu(in_features)


def run_swiglu(
    d_model: int,
    d_ff: int,
    w1_weight: Tensor,
    w2_weight: Tensor,
    w3_weight: Tensor,
    in_features: Float[Tensor, "*N d_model"],
) -> Float[Tensor, "*N d_model"]:
    """Compute W2(silu(W1 x) * W3 x).

    Raises:
        UserError: A weight has another shape.
    """
    mlp = layers.MLP(d_model, d_ff, initialize=False)
    weights = {"up.weight": rows(w1_weight, w3_weight), "down.weight": w2_weight}
    return computed(mlp, in_features, weights)


def run_scaled_dot_product_attention(
    Q: Tensor, K: Tensor, V: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Compute softmax(Q K^T / sqrt(d_k)) V; True in the mask lets a query attend to a key.

    Raises:
        UserError: The mask is not boolean.
    """
    return scaled_dot_product_attention(Q, K, V, mask)


def _check_positions(positions: Tensor) -> None:
    if bool((positions < 0).any()):
        raise UserError(
            f"A position is {int(positions.min())}. Positions of at least 0 are expected."
        )


def run_rope(
    d_k: int,
    theta: float | int,
    max_seq_len: int,
    in_query_or_key: Float[Tensor, "*N T d_k"],
    token_positions: Int[Tensor, "*M T"],
) -> Float[Tensor, "*N T d_k"]:
    """Rotate each pair of neighbors by an angle that grows with the position.

    Raises:
        UserError: `d_k` is odd, or a position is negative.
        IndexError: A position is not below `max_seq_len`.
    """
    _check_positions(token_positions)
    rope = RotaryEmbedding(d_k, max_seq_len, theta, "interleaved").to(in_query_or_key.device)
    rotated: Tensor = rope(in_query_or_key, token_positions)
    return rotated


def run_multihead_self_attention(
    d_model: int,
    num_heads: int,
    q_proj_weight: Tensor,
    k_proj_weight: Tensor,
    v_proj_weight: Tensor,
    o_proj_weight: Tensor,
    in_features: Float[Tensor, "*N T d_in"],
) -> Float[Tensor, "*N T d_out"]:
    """Compute causal attention of several heads, without positions.

    Raises:
        UserError: A weight has another shape.
    """
    projections = (q_proj_weight, k_proj_weight, v_proj_weight, o_proj_weight)
    return _attended(d_model, num_heads, projections, in_features, None)


def run_multihead_self_attention_with_rope(
    d_model: int,
    num_heads: int,
    max_seq_len: int,
    theta: float | int,
    q_proj_weight: Tensor,
    k_proj_weight: Tensor,
    v_proj_weight: Tensor,
    o_proj_weight: Tensor,
    in_features: Float[Tensor, "*N T d_in"],
    token_positions: Int[Tensor, "*M T"] | None = None,
) -> Float[Tensor, "*N T d_out"]:
    """Compute causal attention of several heads, with queries and keys rotated.

    Args:
        d_model: Width of the queries of all heads together.
        num_heads: Number of heads.
        max_seq_len: Number of positions.
        theta: Base of the rotary wavelengths.
        q_proj_weight: Rows of all heads, (d_model, d_in).
        k_proj_weight: Rows of all heads, (d_model, d_in).
        v_proj_weight: Rows of all heads, (d_model, d_in).
        o_proj_weight: (d_out, d_model).
        in_features: The input.
        token_positions: The position of each token. None: 0, 1, 2 and so on.

    Raises:
        UserError: A weight has another shape, or a position is negative.
        IndexError: A position is not below `max_seq_len`.
    """
    if token_positions is not None:
        _check_positions(token_positions)
    rope = RotaryEmbedding(d_model // num_heads, max_seq_len, theta, "interleaved")
    rope = rope.to(in_features.device)
    if token_positions is None:
        token_positions = torch.arange(in_features.shape[-2], device=in_features.device)
    cos, sin = rope.at(token_positions)  # (..., T, D) each; the heads come first in attention
    rotary = (cos.flatten(0, -3), sin.flatten(0, -3)) if cos.ndim > 3 else (cos, sin)
    projections = (q_proj_weight, k_proj_weight, v_proj_weight, o_proj_weight)
    return _attended(d_model, num_heads, projections, in_features, rotary)


def _attended(
    d_model: int,
    num_heads: int,
    projections: tuple[Tensor, Tensor, Tensor, Tensor],
    x: Tensor,
    rotary: tuple[Tensor, Tensor] | None,
) -> Tensor:
    q, k, v, o = projections
    if d_model % num_heads:
        raise UserError(f"d_model {d_model} is not divisible by {num_heads} heads.")
    attention = MultiHeadAttention(
        x.shape[-1],
        num_heads,
        d_out=len(o),
        d_head=d_model // num_heads,
        rotary_layout="interleaved",
        initialize=False,
    )
    leading = x.shape[:-2]
    weights = {"qkv.weight": rows(q, k, v), "out.weight": o}
    y = computed(attention, x.reshape(-1, *x.shape[-2:]), weights, rotary)
    return y.reshape(*leading, *y.shape[-2:])
