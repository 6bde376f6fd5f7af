"""The attention classes of chapter 3, from one head without a mask to several with one.

All of them compute `attend`; they differ in their weights, the mask and the number of heads. The
order of the operations and of the random draws is the book's (keys come before queries), so values
and gradients are equal to the last bit.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from groundup.base.errors import UserError


def attend(
    queries: Float[Tensor, "*B T D"],
    keys: Float[Tensor, "*B T D"],
    values: Float[Tensor, "*B T E"],
    mask: Bool[Tensor, "T T"] | None = None,
    dropout: nn.Dropout | None = None,
) -> Float[Tensor, "*B T E"]:
    """Compute scaled dot-product attention; `mask` is True where a key is hidden from a query."""
    scores = queries @ keys.transpose(-2, -1)  # (*B, T, T)
    if mask is not None:
        scores = scores.masked_fill(mask, -torch.inf)
    weights = torch.softmax(scores / keys.shape[-1] ** 0.5, dim=-1)
    if dropout is not None:
        weights = dropout(weights)
    return weights @ values


class SelfAttention_v1(nn.Module):  # noqa: N801
    """Self-attention of one head over (T, d_in), with plain matrices as weights."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.W_query = nn.Parameter(torch.rand(d_in, d_out))
        self.W_key = nn.Parameter(torch.rand(d_in, d_out))
        self.W_value = nn.Parameter(torch.rand(d_in, d_out))

    def forward(self, x: Float[Tensor, "*B T C"]) -> Float[Tensor, "*B T E"]:
        """Compute the context vectors."""
        keys, queries, values = x @ self.W_key, x @ self.W_query, x @ self.W_value
        return attend(queries, keys, values)


class SelfAttention_v2(nn.Module):  # noqa: N801
    """Self-attention of one head over (T, d_in), with linear layers as weights."""

    def __init__(self, d_in: int, d_out: int, qkv_bias: bool = False) -> None:
        super().__init__()
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)

    def forward(self, x: Float[Tensor, "*B T C"]) -> Float[Tensor, "*B T E"]:
        """Compute the context vectors."""
        keys, queries, values = self.W_key(x), self.W_query(x), self.W_value(x)
        return attend(queries, keys, values)


SelfAttention = SelfAttention_v2


class CausalAttention(nn.Module):
    """One head over (B, T, d_in) in which no position sees a later one."""

    mask: Tensor

    def __init__(
        self, d_in: int, d_out: int, context_length: int, dropout: float, qkv_bias: bool = False
    ) -> None:
        super().__init__()
        self.d_out = d_out
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("mask", _future(context_length))

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T E"]:
        """Compute the context vectors.

        Raises:
            UserError: There are more positions than the context length.
        """
        keys, queries, values = self.W_key(x), self.W_query(x), self.W_value(x)
        return attend(queries, keys, values, _hidden(self.mask, x.shape[1]), self.dropout)


class MultiHeadAttentionWrapper(nn.Module):
    """Several `CausalAttention` side by side: (B, T, d_in) to (B, T, num_heads * d_out)."""

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        qkv_bias: bool = False,
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            CausalAttention(d_in, d_out, context_length, dropout, qkv_bias)
            for _ in range(num_heads)
        )

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T E"]:
        """Compute the context vectors of all heads, side by side."""
        return torch.cat([head(x) for head in self.heads], dim=-1)


class MultiHeadAttention(nn.Module):
    """Causal attention with `num_heads` heads in one matrix each: (B, T, d_in) to (B, T, d_out).

    Raises:
        UserError: `d_out` is not divisible by `num_heads`.
    """

    mask: Tensor

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        qkv_bias: bool = False,
    ) -> None:
        super().__init__()
        if d_out % num_heads:
            raise UserError(f"d_out must be divisible by num_heads: {d_out} and {num_heads}.")
        self.d_out, self.num_heads, self.head_dim = d_out, num_heads, d_out // num_heads
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.out_proj = nn.Linear(d_out, d_out)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("mask", _future(context_length))

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T E"]:
        """Compute the context vectors of all heads, combined by the output projection.

        Raises:
            UserError: There are more positions than the context length.
        """
        B, T, _ = x.shape
        heads = (B, T, self.num_heads, self.head_dim)
        keys, queries, values = (
            layer(x).view(heads).transpose(1, 2)
            for layer in (self.W_key, self.W_query, self.W_value)
        )  # (B, H, T, D) each
        mixed = attend(queries, keys, values, _hidden(self.mask, T), self.dropout)  # (B, H, T, D)
        context: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(B, T, self.d_out))
        return context


def _future(context_length: int) -> Tensor:
    """Ones where the key is later than the query: the buffer `mask` of the book's state_dict."""
    return torch.triu(torch.ones(context_length, context_length), diagonal=1)


def _hidden(mask: Tensor, n_positions: int) -> Tensor:
    if n_positions > len(mask):
        raise UserError(
            f"{n_positions} tokens do not fit in a context of {len(mask)}. Use a shorter text or a "
            "larger context_length."
        )
    return mask.bool()[:n_positions, :n_positions]
