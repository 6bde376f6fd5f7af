"""FLOPs equal those of torch's counter, and memory equals what autograd saves."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from groundup.model.config import GPTConfig
from groundup.model.count import (
    count_parameters,
    flops_per_token,
    forward_flops_per_token,
    gpu_loss_rows,
    memory_bytes,
)
from groundup.model.gpt import GPT

CONFIGS = [
    GPTConfig(vocab_size=64, context_length=32, d_model=32, n_layers=2, n_heads=4),
    GPTConfig.llama(
        vocab_size=64, context_length=32, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=96
    ),
    GPTConfig(
        vocab_size=64,
        context_length=32,
        d_model=32,
        n_layers=3,
        n_heads=4,
        norm="layer",
        positions="learned",
        qk_norm=False,
        activation="gelu",
        bias=True,
        qkv_bias=True,
    ),
]
_PATTERNS: list[tuple[str, dict[str, Any]]] = [("w", {"window": 128}), ("dg", {}), ("d", {})]
PATTERNS = [
    GPTConfig(
        vocab_size=64, context_length=640, d_model=32, n_layers=2, n_heads=4, d_ff=32,
        layers=layers, bias=True, qkv_bias=True, **more,
    )
    for layers, more in _PATTERNS
]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS)
def test_matrix_flops_equal_the_counter(config: GPTConfig) -> None:
    B, T = 2, config.context_length
    ids = torch.zeros(B, T, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        GPT(config)(ids)
    counts = counter.get_flop_counts()["Global"]
    within = ("attention", "bmm")  # the products of attention, fused or in blocks
    products = sum(n for op, n in counts.items() if not any(name in str(op) for name in within))
    H, D, L = config.n_heads, config.head_width, config.n_layers
    attention = L * H * D * 2 * (T + 1)
    assert forward_flops_per_token(config) - attention == products / (B * T)
    assert flops_per_token(config) == 3 * forward_flops_per_token(config)


@pytest.mark.parametrize("config", PATTERNS)
def test_patterns_are_counted(config: GPTConfig) -> None:
    model, T = GPT(config), config.context_length
    assert count_parameters(config) == sum(p.numel() for p in model.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, T, dtype=torch.long))
    if config.layers == "d":
        assert forward_flops_per_token(config) == counter.get_total_flops() / T
    delta = replace(config, layers="d", window=None)
    attention = replace(config, layers="g", window=None)
    costs = [forward_flops_per_token(each) for each in (delta, attention)]
    assert (config.layers == "dg") == (forward_flops_per_token(config) == sum(costs) // 2)
    if config.layers == "w":  # fewer pairs, and the same products of weights
        sees = [T * (T + 1) / 2, 128 * 129 / 2 + (T - 128) * 128]
        saved = 2 * 4 * 32 * (sees[0] - sees[1]) / T
        assert forward_flops_per_token(config) == pytest.approx(costs[1] - saved, abs=2)


def test_gpt2_is_near_six_flops_per_parameter() -> None:
    # 6 N and the scores: 855 million per token with full attention, less with half of it masked.
    flops = flops_per_token(GPTConfig.gpt2("124M"))
    assert 6 * 123.5e6 < flops < 855.2e6


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("context_length", [32, 600])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("config", [*CONFIGS, *PATTERNS])
def test_activation_memory_is_what_autograd_saves(
    config: GPTConfig, dtype: torch.dtype, context_length: int, dropout: float
) -> None:
    window = None if config.window is None else min(config.window, context_length)
    config = replace(config, context_length=context_length, window=window, dropout=dropout)
    model, B = GPT(config).to(dtype), 4
    ids = torch.zeros(B, config.context_length, dtype=torch.long)
    constants = (*model.parameters(), *model.buffers())
    weights = {tensor.untyped_storage().data_ptr() for tensor in constants}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = model.hidden(ids)
    memory = memory_bytes(config, B, activation_bytes=dtype.itemsize, on_cpu=True)
    assert hidden.requires_grad
    # In narrow heads the constants of norms count.
    bar = 0.06 if config.layers is None else 0.1
    assert memory.activations_bytes == pytest.approx(sum(kept.values()), rel=bar)


def test_a_compiled_step_on_a_gpu_stores_all_logits_and_fewer_activations() -> None:
    config, tokens = GPTConfig.gpt2("124M"), 32 * 1024
    plain, compiled = (
        memory_bytes(config, 32, activation_bytes=2, compiled=flag) for flag in (False, True)
    )
    assert compiled.activations_bytes < 0.7 * plain.activations_bytes
    head = 2 * 50_304 * 768  # padded, in bfloat16
    assert compiled.logits_bytes == 3 * 2 * tokens * 50_304 + 2 * head + 2 * tokens * 768
    # A fourth of them at a time, in bfloat16, as float32 softmax and as gradient.
    assert plain.logits_bytes == 8 * tokens // 4 * 50_304 + 3 * head + 2 * tokens * 768
    assert gpu_loss_rows(10**6, compiled=True) == gpu_loss_rows(10**6, compiled=False) == 2**13


def test_memory_parts_add_up() -> None:
    memory = memory_bytes(CONFIGS[0], 8)
    parts = [getattr(memory, name) for name in memory.__dataclass_fields__]
    assert memory.total_bytes == sum(parts)
    assert min(parts) > 0
