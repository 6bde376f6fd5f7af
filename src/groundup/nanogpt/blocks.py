"""nanoGPT's config and the modules of a block, under its names."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from groundup.base.errors import UserError
from groundup.model import layers
from groundup.model.attention import scaled_dot_product_attention
from groundup.model.layers import Linear


@dataclass
class GPTConfig:
    """Architecture of a model. The defaults are GPT-2's smallest size, with a padded vocabulary."""

    block_size: int = 1024
    """Number of positions."""
    vocab_size: int = 50304
    """Number of different tokens."""
    n_layer: int = 12
    """Number of blocks."""
    n_head: int = 12
    """Number of heads per block."""
    n_embd: int = 768
    """Width of the residual stream."""
    dropout: float = 0.0
    """Fraction of activations that are set to zero in training."""
    bias: bool = True
    """Use biases in linear layers and norms, as GPT-2 does."""


class LayerNorm(layers.LayerNorm):
    """LayerNorm with nanoGPT's arguments."""

    def __init__(self, ndim: int, bias: bool) -> None:
        super().__init__(ndim, bias=bias)


class CausalSelfAttention(nn.Module):
    """Multi-head causal attention; `c_attn` holds the rows of queries, keys and values."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        if config.n_embd % config.n_head:
            raise UserError(f"n_embd {config.n_embd} is not divisible by n_head {config.n_head}.")
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.resid_dropout = nn.Dropout(config.dropout)
        self.n_head, self.n_embd, self.dropout = config.n_head, config.n_embd, config.dropout

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        """Attend to the current and all earlier positions."""
        q, k, v = (
            part.unflatten(-1, (self.n_head, -1)).transpose(1, 2)
            for part in self.c_attn(x).chunk(3, dim=-1)
        )  # (B, H, T, D) each
        dropout = self.dropout if self.training else 0.0
        y = scaled_dot_product_attention(q, k, v, causal=True, dropout=dropout)
        out: Tensor = self.resid_dropout(self.c_proj(y.transpose(1, 2).flatten(2)))
        return out


class MLP(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.gelu = nn.GELU()
        self.c_proj = Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "*N C"]) -> Float[Tensor, "*N C"]:
        """Compute what is added to the residual stream."""
        out: Tensor = self.dropout(self.c_proj(self.gelu(self.c_fc(x))))
        return out


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(config.n_embd, bias=config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        """Compute the residual stream after attention and MLP."""
        x = x + self.attn(self.ln_1(x))
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out
