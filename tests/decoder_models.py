"""Small models of every architecture, and what `GPT.forward` computes with them."""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from groundup.model.config import GPTConfig, RotaryScaling
from groundup.model.gpt import GPT

SMALL: dict[str, Any] = {
    "vocab_size": 60,
    "context_length": 48,
    "d_model": 24,
    "n_layers": 2,
    "n_heads": 4,
}
CONFIGS = {
    "ours": GPTConfig(**SMALL),
    "untied, relu2": GPTConfig(**SMALL, tie_embeddings=False, activation="relu2"),
    "n-grams": GPTConfig(**SMALL, ngram=3, ngram_rows=50),
    "look back": GPTConfig(**SMALL, look_back=True, qkv_bias=True, n_kv_heads=2),
    "llama": GPTConfig.llama(**{**SMALL, "n_kv_heads": 2, "d_ff": 40}),
    "interleaved": GPTConfig.llama(
        **{**SMALL, "n_kv_heads": 1, "d_ff": 40, "rotary_layout": "interleaved", "d_head": 10}
    ),
    "qwen3": GPTConfig.llama(**{**SMALL, "n_kv_heads": 2, "d_ff": 40, "qk_norm": True}),
    "gpt2": dataclasses.replace(GPTConfig.gpt2("124M"), **SMALL),
    "layer norm of heads": dataclasses.replace(
        GPTConfig.gpt2("124M"), **SMALL, qk_norm=True, activation="gelu-exact"
    ),
    "scaled positions": GPTConfig(
        **SMALL, rotary_scaling=RotaryScaling(kind="yarn", factor=4.0, original_context=16)
    ),
    "window": GPTConfig(**SMALL, n_kv_heads=2, qk_norm=False, sliding_window=8),
    "window in one layer": GPTConfig(**SMALL, sliding_window=5, sliding_layers=(1,)),
    "windows and all": GPTConfig(**SMALL, n_kv_heads=2, layers="wg", window=8),
    "delta rule": GPTConfig(**SMALL, layers="dw", window=5, bias=True, ngram=2, ngram_rows=50),
}


def lively(config: GPTConfig) -> GPT:
    """A model with large random weights, whose logits depend on the whole text."""
    model = GPT(config).eval()
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        mean = 1.0 if parameter.ndim == 1 and not name.endswith("bias") else 0.0
        torch.nn.init.normal_(parameter, mean, std=0.1, generator=generator)
    return model


def text(n: int, seed: int = 0) -> list[int]:
    return torch.randint(60, (n,), generator=torch.Generator().manual_seed(seed)).tolist()


@torch.inference_mode()
def whole(model: GPT, ids: list[int]) -> Tensor:
    """The logits (T, V) of `GPT.forward`, without a cache."""
    return model(torch.tensor([ids]))[0].float()
