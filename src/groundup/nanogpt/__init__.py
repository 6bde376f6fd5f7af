"""nanoGPT's names: its model with its arguments and weights, and the functions of its train.py.

docs/nanogpt.md shows what maps to what.
"""

from groundup.nanogpt.blocks import MLP, Block, CausalSelfAttention, GPTConfig, LayerNorm
from groundup.nanogpt.model import GPT, from_gpt, to_gpt
from groundup.nanogpt.training import estimate_loss, get_batch, get_lr, load_checkpoint

__all__ = [
    "GPT",
    "MLP",
    "Block",
    "CausalSelfAttention",
    "GPTConfig",
    "LayerNorm",
    "estimate_loss",
    "from_gpt",
    "get_batch",
    "get_lr",
    "load_checkpoint",
    "to_gpt",
]
