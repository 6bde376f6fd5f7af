"""Causal self-attention, twice: the formula of the paper, and a fast path with the same results.

Each position has a query (what it looks for), a key (what it offers) and a value (what it passes
on). The scores of a query against the keys up to its own position are turned into weights that sum
to one, and the output is the weighted sum of the values. Rotary embeddings rotate queries and keys
by their position, so that a score depends on the distance between two positions.

`attention_formula` is written to be read; the model runs `attention_fused`. Tests check that both
have the same values and gradients.
"""

from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from groundup.model.config import GPTConfig
from groundup.model.count import ATTENTION_BLOCK, FEW_POSITIONS
from groundup.model.uninitialized import Linear


@runtime_checkable
class KeyValueCache(Protocol):
    """What the model needs of a KV cache."""

    @property
    def length(self) -> int:
        """Number of stored positions."""

    @property
    def ids(self) -> Tensor:
        """Token ids (B, S) at these positions."""

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new `keys` and `values` (B, G, T, D) of a layer; return those of all positions."""

    def advance(self, ids: Tensor) -> None:
        """Add the new token ids (B, T), after every layer has stored their positions."""


def causal_mask(n_queries: int, n_keys: int, device: torch.device | None = None) -> Tensor:
    """Boolean causal mask: True where key position <= query position.

    The queries are the last `n_queries` of the `n_keys` positions, as they are with a KV cache.

    >>> causal_mask(2, 3).int().tolist()
    [[1, 1, 0], [1, 1, 1]]
    """
    ones = torch.ones(n_queries, n_keys, dtype=torch.bool, device=device)
    return ones.tril(diagonal=n_keys - n_queries)  # (T, S)


def attention_weights(
    queries: Float[Tensor, "B H T D"], keys: Float[Tensor, "B G S D"]
) -> Float[Tensor, "B H T S"]:
    """Attention weights: softmax(Q K^T / sqrt(D)) with the causal mask.

    G key heads are shared by H query heads in groups of H/G (grouped-query attention). G = H is
    multi-head attention.
    """
    T, S, D = queries.shape[2], keys.shape[2], queries.shape[3]
    keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)  # (B, H, S, D)
    scores = queries @ keys.transpose(-2, -1) / D**0.5  # (B, H, T, S)
    # The softmax turns minus infinity into a weight of exactly zero: no future token leaks in.
    scores = scores.masked_fill(~causal_mask(T, S, scores.device), float("-inf"))
    weights: Tensor = scores.softmax(dim=-1)
    return weights


def attention_formula(
    queries: Float[Tensor, "B H T D"],
    keys: Float[Tensor, "B G S D"],
    values: Float[Tensor, "B G S D"],
) -> Float[Tensor, "B H T D"]:
    """Attention(Q, K, V) = softmax(Q K^T / sqrt(D)) V, step by step.

    Source: "Attention Is All You Need", equation 1; the mask is its section 3.2.3.
    """
    values = values.repeat_interleave(queries.shape[1] // values.shape[1], dim=1)  # (B, H, S, D)
    return attention_weights(queries, keys) @ values


def attention_fused(
    queries: Float[Tensor, "B H T D"],
    keys: Float[Tensor, "B G S D"],
    values: Float[Tensor, "B G S D"],
    *,
    dropout: float = 0.0,
) -> Float[Tensor, "B H T D"]:
    """Compute the same as `attention_formula` without storing the T x S matrix of weights.

    Source: "FlashAttention: Fast and Memory-Efficient Exact Attention", algorithm 1.
    """
    T, S = queries.shape[2], keys.shape[2]
    if T == S and by_blocks(T, queries.dtype, queries.device):
        return attention_blocks(queries, keys, values, dropout=dropout)
    # torch's is_causal aligns the diagonal at the top left, which is right for T = S only. With a
    # cache the mask is explicit; a single query sees every key and needs no mask.
    mask = causal_mask(T, S, queries.device) if 1 < T < S else None
    return F.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=T == S and T > 1,
        enable_gqa=queries.shape[1] != keys.shape[1],
    )


def by_blocks(context_length: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether `attention_blocks` trains faster than torch's fused kernel.

    On a CPU the kernel's backward pass has no fast bfloat16 products. In float32 it takes twice
    the time of plain products at 64 positions, and the same time at 1,024.
    """
    few = context_length <= FEW_POSITIONS
    return device.type == "cpu" and (dtype == torch.bfloat16 or few)


def attention_blocks(
    queries: Float[Tensor, "B H T D"],
    keys: Float[Tensor, "B G T D"],
    values: Float[Tensor, "B G T D"],
    *,
    dropout: float = 0.0,
    block: int = ATTENTION_BLOCK,
) -> Float[Tensor, "B H T D"]:
    """Compute attention by matrix products of `block` queries and the keys visible to them.

    Without gradients it stores `block` rows of attention weights at a time; training stores all
    of them for the backward pass.
    """
    B, H, T, D = queries.shape
    if keys.shape[1] < H:
        keys, values = (x.repeat_interleave(H // x.shape[1], dim=1) for x in (keys, values))
    # `Attention` stores the heads first in memory; in this order the reshape copies nothing.
    queries, keys, values = (
        x.transpose(0, 1).reshape(H * B, T, D) for x in (queries, keys, values)
    )  # (H B, T, D) each
    outputs = []
    for start in range(0, T, block):
        stop = min(start + block, T)
        # Keys after `stop` are masked for the whole block, so they are left out of the product.
        mask = torch.full((stop - start, stop), -torch.inf, dtype=queries.dtype).triu(start + 1)
        scores = torch.baddbmm(
            mask, queries[:, start:stop], keys[:, :stop].mT, alpha=D**-0.5
        )  # (H B, block, stop)
        weights = F.dropout(scores.softmax(dim=-1), dropout)
        outputs.append(weights @ values[:, :stop])  # (H B, block, D)
    output = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)  # (H B, T, D)
    return output.view(H, B, T, D).transpose(0, 1)  # (B, H, T, D)


def rotary_tables(
    context_length: int,
    d_head: int,
    base: float,
    layout: Literal["half", "interleaved"] = "half",
) -> tuple[Float[Tensor, "T D"], Float[Tensor, "T D"]]:
    """Cosines and sines of the rotation angles at each position, for `rotate`.

    Pair i at position t is rotated by the angle t * base^(-2i / D): the first pairs have the
    highest frequencies. Both members of a pair get its cosine; the first gets the negative sine.

    The two layouts differ only in which dimensions form a pair: "half" pairs i with i + D/2
    (GPT-NeoX, Hugging Face's Llama), "interleaved" pairs 2i with 2i + 1 (the paper, Meta's Llama).
    Weights can be permuted from one layout to the other; mixing the two gives wrong results.

    Source: "RoFormer: Enhanced Transformer with Rotary Position Embedding", section 3.2.2.
    """
    pair = torch.arange(0, d_head, 2, dtype=torch.float32)
    angles = torch.outer(
        torch.arange(context_length, dtype=torch.float32), base ** (-pair / d_head)
    )  # (T, D/2)
    cos, sin = angles.cos(), angles.sin()  # (T, D/2)
    if layout == "half":
        return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
    return cos.repeat_interleave(2, dim=-1), torch.stack((-sin, sin), dim=-1).flatten(-2)


def rotate(
    x: Float[Tensor, "*N T D"],
    cos: Float[Tensor, "T D"],
    sin: Float[Tensor, "T D"],
    layout: Literal["half", "interleaved"] = "half",
) -> Float[Tensor, "*N T D"]:
    """Rotate each pair of dimensions of each head by the angle of its position.

    (a, b) becomes (a cos - b sin, b cos + a sin): each value times the cosine, plus the other
    value of its pair times the signed sine.

    >>> tables = rotary_tables(2, 2, 10_000.0)
    >>> rotate(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), *tables)[1]
    tensor([0.5403, 0.8415])
    """
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    if layout == "half":
        swapped = x.roll(x.shape[-1] // 2, dims=-1)
    else:
        swapped = x.reshape(*x.shape[:-1], -1, 2).flip(-1).flatten(-2)
    return torch.addcmul(x * cos, swapped, sin)


class Attention(nn.Module):
    """Multi-head causal self-attention with rotary embeddings and optional QK norm."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        H, G, D, C = config.n_heads, config.kv_heads, config.head_width, config.d_model
        self.layer = layer
        self.n_heads, self.n_kv_heads, self.d_head = H, G, D
        self.rotary_layout = config.rotary_layout
        self.norm, self.norm_eps = config.norm, config.norm_eps
        self.dropout = config.dropout
        # One matrix product instead of three. Rows: all query heads, all key heads, all value
        # heads.
        self.qkv = Linear(C, (H + 2 * G) * D, bias=config.qkv_bias)
        self.out = Linear(H * D, C, bias=config.bias)
        self.query_gain = nn.Parameter(torch.ones(D)) if config.qk_norm else None
        self.key_gain = nn.Parameter(torch.ones(D)) if config.qk_norm else None

    @torch.no_grad()
    def look_back(self, rotary_base: float, generator: torch.Generator) -> None:
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
        cos, sin = rotary_tables(H + 1, D, rotary_base, self.rotary_layout)
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
        # Heads first and contiguous, so that the following operations read each head in order.
        heads = heads.permute(2, 0, 1, 3).contiguous()  # (H + 2G, B, T, D)
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
        rotary: tuple[Tensor, Tensor] | None,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "B T C"]:
        """Attend to the current and all earlier positions, and project back to the model width."""
        queries, keys, values = self.project(x, rotary)  # (B, H, T, D), (B, G, T, D), (B, G, T, D)
        if cache is not None:
            keys, values = cache.append(self.layer, keys, values)  # (B, G, S, D) each
        mixed = attention_fused(
            queries, keys, values, dropout=self.dropout if self.training else 0.0
        )  # (B, H, T, D)
        mixed = mixed.transpose(1, 2).flatten(2)  # (B, T, H D)
        return F.dropout(self.out(mixed), self.dropout, self.training)  # (B, T, C)
