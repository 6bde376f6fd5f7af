"""Attention, twice: the formula of the paper, and the fused kernel with the same numbers, faster.

Each position asks a question (query), offers a label (key) and carries a message (value). A query
is compared with every key up to its own position, the scores become weights that sum to one, and
the messages are mixed by these weights. Positions enter by turning queries and keys (rotary), so
that a score depends on the distance.

`attention_formula` is there to be read and checked; the model runs `attention_fused`. Tests hold
the two equal in values and gradients.
"""

from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from groundup.model.bare import Linear
from groundup.model.config import GPTConfig
from groundup.model.count import ATTENTION_BLOCK, FEW_POSITIONS


@runtime_checkable
class KeyValueCache(Protocol):
    """What attention needs of a cache: how far it is, and room for new keys and values."""

    @property
    def length(self) -> int:
        """How many positions of the past are stored."""

    @property
    def ids(self) -> Tensor:
        """The tokens (B S) at these positions."""

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new `keys` and `values` (B G T D) of a layer; return those of all positions."""

    def advance(self, ids: Tensor) -> None:
        """All layers have stored the positions of these new tokens (B T)."""


def causal_mask(n_queries: int, n_keys: int, device: torch.device | None = None) -> Tensor:
    """Which keys each query may see: True where key position <= query position.

    The queries are the last `n_queries` of the `n_keys` positions, as they are when the past is
    cached.

    >>> causal_mask(2, 3).int().tolist()
    [[1, 1, 0], [1, 1, 1]]
    """
    everything = torch.ones(n_queries, n_keys, dtype=torch.bool, device=device)
    return everything.tril(diagonal=n_keys - n_queries)


def attention_weights(
    queries: Float[Tensor, "B H T D"], keys: Float[Tensor, "B G S D"]
) -> Float[Tensor, "B H T S"]:
    """The share each query gives to each key: softmax(Q K^T / sqrt(D)) under the causal mask.

    G key heads serve H query heads in groups of H/G; with G = H it is ordinary multi-head
    attention.
    """
    T, S, D = queries.shape[2], keys.shape[2], queries.shape[3]
    keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)  # (B, H, S, D)
    scores = queries @ keys.transpose(-2, -1) / D**0.5  # (B, H, T, S)
    # Minus infinity becomes a weight of exactly zero: the future cannot leak.
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
    """The same numbers in one call that never stores the T x S matrix.

    Source: "FlashAttention: Fast and Memory-Efficient Exact Attention", algorithm 1.
    """
    T, S = queries.shape[2], keys.shape[2]
    if T == S and by_blocks(T, queries.dtype, queries.device):
        return attention_blocks(queries, keys, values, dropout=dropout)
    # torch's is_causal aligns the diagonal at the top left: right for T = S only. One query sees
    # every key.
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
    """Whether plain products train faster here than torch's fused kernel.

    On a CPU its backward pass has no fast bfloat16 products, and in float32 it takes twice the time
    of plain ones at 64 positions, as much at 1,024.
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
    """The formula in plain matrix products, for some queries at a time and the keys they may see.

    Without gradients it holds `block` rows of weights at a time; the backward pass needs them all.
    """
    B, H, T, D = queries.shape
    if keys.shape[1] < H:
        keys, values = (x.repeat_interleave(H // x.shape[1], dim=1) for x in (keys, values))
    # `Attention` lays heads out first; in that order nothing is copied here.
    queries, keys, values = (
        x.transpose(0, 1).reshape(H * B, T, D) for x in (queries, keys, values)
    )
    mixed = []
    for start in range(0, T, block):
        stop = min(start + block, T)
        future = torch.full((stop - start, stop), -torch.inf, dtype=queries.dtype).triu(start + 1)
        scores = torch.baddbmm(
            future, queries[:, start:stop], keys[:, :stop].mT, alpha=D**-0.5
        )  # (H B, block, S)
        weights = F.dropout(scores.softmax(dim=-1), dropout)
        mixed.append(weights @ values[:, :stop])
    whole = mixed[0] if len(mixed) == 1 else torch.cat(mixed, dim=1)
    return whole.view(H, B, T, D).transpose(0, 1)


def rotary_tables(
    context_length: int,
    d_head: int,
    base: float,
    layout: Literal["half", "interleaved"] = "half",
) -> tuple[Float[Tensor, "T D"], Float[Tensor, "T D"]]:
    """Cosine and sine of the angle by which each pair turns at each position, for `rotate`.

    Pair i at position t turns by t * base^(-2i / D): the first pairs fast, the last ones slowly.
    Both partners of a pair have its cosine; the first has the sine with a minus.

    The two layouts differ only in which numbers are partners: "half" pairs i with i + D/2
    (GPT-NeoX, Hugging Face's Llama), "interleaved" pairs 2i with 2i + 1 (the paper, Meta's Llama).
    Weights of one can be reordered to the other, but never mixed.

    Source: "RoFormer: Enhanced Transformer with Rotary Position Embedding", section 3.2.2.
    """
    pair = torch.arange(0, d_head, 2, dtype=torch.float32)
    angles = torch.outer(
        torch.arange(context_length, dtype=torch.float32), base ** (-pair / d_head)
    )  # (T, D/2)
    cos, sin = angles.cos(), angles.sin()
    if layout == "half":
        return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
    return cos.repeat_interleave(2, dim=-1), torch.stack((-sin, sin), dim=-1).flatten(-2)


def rotate(
    x: Float[Tensor, "*N T D"],
    cos: Float[Tensor, "T D"],
    sin: Float[Tensor, "T D"],
    layout: Literal["half", "interleaved"] = "half",
) -> Float[Tensor, "*N T D"]:
    """Turn each pair of numbers of each head by the angle of its position.

    (a, b) becomes (a cos - b sin, b cos + a sin): each number times the cosine, plus its partner
    times the signed sine.

    >>> tables = rotary_tables(2, 2, 10_000.0)
    >>> rotate(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), *tables)[1]
    tensor([0.5403, 0.8415])
    """
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    if layout == "half":
        partners = x.roll(x.shape[-1] // 2, dims=-1)
    else:
        partners = x.reshape(*x.shape[:-1], -1, 2).flip(-1).flatten(-2)
    return torch.addcmul(x * cos, partners, sin)


class Attention(nn.Module):
    """Multi-head causal self-attention: project, turn, attend, project back."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        H, G, D, C = config.n_heads, config.kv_heads, config.head_width, config.d_model
        self.layer = layer
        self.n_heads, self.n_kv_heads, self.d_head = H, G, D
        self.rotary_layout = config.rotary_layout
        self.norm, self.norm_eps = config.norm, config.norm_eps
        self.dropout = config.dropout
        # One product instead of three: rows are all queries, then all keys, then all values, head
        # by head.
        self.qkv = Linear(C, (H + 2 * G) * D, bias=config.qkv_bias)
        self.out = Linear(H * D, C, bias=config.bias)
        self.query_gain = nn.Parameter(torch.ones(D)) if config.qk_norm else None
        self.key_gain = nn.Parameter(torch.ones(D)) if config.qk_norm else None

    @torch.no_grad()
    def look_back(self, rotary_base: float, generator: torch.Generator) -> None:
        """Let head h start by looking h + 1 tokens back, whatever they are, and pass that on.

        All keys have one direction, each query the same one turned back by its head's distance: so
        the biases alone make a score greatest at that distance. Only the pairs that turn fast tell
        neighbours apart. The projection back to the stream starts orthogonal in place of zero.
        Training finds such heads by itself, but most of a short run goes by until then.
        """
        H, G, D = self.n_heads, self.n_kv_heads, self.d_head
        n_pairs = max(1, D // 8)
        where = slice(n_pairs) if self.rotary_layout == "half" else slice(0, 2 * n_pairs, 2)
        length = 4.0 * D**0.5  # four times what the tokens themselves add
        direction = torch.zeros(D)
        direction[where] = length / n_pairs**0.5
        direction[where][1::2] *= -1.0  # a mean near zero, which is what a layer norm takes away
        cos, sin = rotary_tables(H + 1, D, rotary_base, self.rotary_layout)
        turned_back = rotate(direction.expand(H, D), cos[1:], -sin[1:], self.rotary_layout)
        biases = self.qkv.bias.view(H + 2 * G, D)
        biases[:H] = turned_back
        biases[H : H + G] = direction
        nn.init.orthogonal_(self.out.weight, generator=generator)

    def project(
        self,
        x: Float[Tensor, "B T C"],
        rotary: tuple[Tensor, Tensor] | None,
    ) -> tuple[Float[Tensor, "B H T D"], Float[Tensor, "B G T D"], Float[Tensor, "B G T D"]]:
        """Queries, keys and values of the positions in x, normed and turned, a matrix per head."""
        H, G = self.n_heads, self.n_kv_heads
        heads = self.qkv(x).unflatten(-1, (H + 2 * G, self.d_head))  # (B, T, H + 2G, D)
        # Heads first and in one piece, so that what follows reads each head's rows in order.
        heads = heads.permute(2, 0, 1, 3).contiguous()  # (H + 2G, B, T, D)
        turning, values = heads.split((H + G, G))
        if self.query_gain is not None and self.key_gain is not None:
            norms = zip(turning.split((H, G)), (self.query_gain, self.key_gain), strict=True)
            turning = torch.cat([self.norm_heads(x, gain) for x, gain in norms])
        if rotary is not None:
            turning = rotate(turning, *rotary, self.rotary_layout)
        queries, keys = turning.split((H, G))
        return queries.transpose(0, 1), keys.transpose(0, 1), values.transpose(0, 1)

    def norm_heads(
        self, x: Float[Tensor, "N B T D"], gain: Float[Tensor, " D"]
    ) -> Float[Tensor, "N B T D"]:
        """Norm each head's vector as the stream is.

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
        """What each position gathered from itself and those before it."""
        queries, keys, values = self.project(x, rotary)
        if cache is not None:
            keys, values = cache.append(self.layer, keys, values)
        mixed = attention_fused(
            queries, keys, values, dropout=self.dropout if self.training else 0.0
        )  # (B, H, T, D)
        return F.dropout(self.out(mixed.transpose(1, 2).flatten(2)), self.dropout, self.training)
