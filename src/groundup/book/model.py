"""The GPT model of chapter 4, with the book's names of weights and order of random draws."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from groundup.base.errors import UserError
from groundup.book.attention import MultiHeadAttention

GPT_CONFIG_124M: dict[str, Any] = {
    "vocab_size": 50257,
    "context_length": 1024,
    "emb_dim": 768,
    "n_heads": 12,
    "n_layers": 12,
    "drop_rate": 0.1,
    "qkv_bias": False,
}
"""The smallest GPT-2, as chapter 4 configures it."""


class LayerNorm(nn.Module):
    """Normalize each vector to mean 0 and variance 1, then scale and shift it."""

    def __init__(self, emb_dim: int) -> None:
        super().__init__()
        self.eps = 1e-5
        self.scale = nn.Parameter(torch.ones(emb_dim))
        self.shift = nn.Parameter(torch.zeros(emb_dim))

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """Normalize along the last axis."""
        mean = x.mean(dim=-1, keepdim=True)
        variance = x.var(dim=-1, keepdim=True, unbiased=False)
        return self.scale * ((x - mean) / torch.sqrt(variance + self.eps)) + self.shift


class GELU(nn.Module):
    """The tanh form of GELU, in the book's order of operations (torch's own rounds differently)."""

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """Apply the activation to each value."""
        root = torch.sqrt(torch.tensor(2.0 / torch.pi))
        return 0.5 * x * (1 + torch.tanh(root * (x + 0.044715 * torch.pow(x, 3))))


class FeedForward(nn.Module):
    """Linear layer to four times the width, GELU, and a linear layer back."""

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        super().__init__()
        width = cfg["emb_dim"]
        self.layers = nn.Sequential(
            nn.Linear(width, 4 * width), GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """Compute the output for each position."""
        output: Tensor = self.layers(x)
        return output


class TransformerBlock(nn.Module):
    """One pre-norm layer: x + attention(norm1(x)), then x + feed forward(norm2(x))."""

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        super().__init__()
        self.att = MultiHeadAttention(
            d_in=cfg["emb_dim"],
            d_out=cfg["emb_dim"],
            context_length=cfg["context_length"],
            num_heads=cfg["n_heads"],
            dropout=cfg["drop_rate"],
            qkv_bias=cfg["qkv_bias"],
        )
        self.ff = FeedForward(cfg)
        self.norm1 = LayerNorm(cfg["emb_dim"])
        self.norm2 = LayerNorm(cfg["emb_dim"])
        self.drop_shortcut = nn.Dropout(cfg["drop_rate"])

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        """Compute the residual stream after attention and feed-forward network."""
        x = self.drop_shortcut(self.att(self.norm1(x))) + x
        stream: Tensor = self.drop_shortcut(self.ff(self.norm2(x))) + x
        return stream


class GPTModel(nn.Module):
    """The GPT-2 architecture; `torch.manual_seed` before it decides the initial weights.

    Args:
        cfg: vocab_size, context_length, emb_dim, n_heads, n_layers, drop_rate and qkv_bias.

    Raises:
        UserError: A key is missing, or emb_dim is not divisible by n_heads.

    >>> model = GPTModel(GPT_CONFIG_124M | {"vocab_size": 9, "emb_dim": 8, "n_heads": 2})
    >>> model(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 9])
    """

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        super().__init__()
        missing = [name for name in GPT_CONFIG_124M if name not in cfg]
        if missing:
            raise UserError(
                f"The config lacks {', '.join(missing)}. Expected {', '.join(GPT_CONFIG_124M)}."
            )
        self.tok_emb = nn.Embedding(cfg["vocab_size"], cfg["emb_dim"])
        self.pos_emb = nn.Embedding(cfg["context_length"], cfg["emb_dim"])
        self.drop_emb = nn.Dropout(cfg["drop_rate"])
        self.trf_blocks = nn.Sequential(*[TransformerBlock(cfg) for _ in range(cfg["n_layers"])])
        self.final_norm = LayerNorm(cfg["emb_dim"])
        self.out_head = nn.Linear(cfg["emb_dim"], cfg["vocab_size"], bias=False)

    def forward(self, in_idx: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Compute the logits of the next token at every position.

        Raises:
            UserError: There are more positions than the context length.
        """
        n_positions, context_length = in_idx.shape[1], self.pos_emb.num_embeddings
        if n_positions > context_length:
            raise UserError(
                f"{n_positions} tokens do not fit in a context of {context_length}. Use a shorter "
                "text or a larger context_length."
            )
        positions = torch.arange(n_positions, device=in_idx.device)
        x = self.drop_emb(self.tok_emb(in_idx) + self.pos_emb(positions))  # (B, T, C)
        logits: Tensor = self.out_head(self.final_norm(self.trf_blocks(x)))
        return logits
