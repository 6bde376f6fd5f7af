"""The arithmetic of docs/scale.md, done again."""

import math
import re
from pathlib import Path

import pytest

from groundup.model.config import GPTConfig
from groundup.model.count import count_parameters, flops_per_token, memory_bytes

PAGE = (Path(__file__).parents[2] / "docs" / "scale.md").read_text("utf-8")
LLAMA_8B = GPTConfig.llama(
    vocab_size=128_256,
    context_length=8192,
    d_model=4096,
    n_layers=32,
    n_heads=32,
    n_kv_heads=8,
    d_ff=14_336,
)
LLAMA_70B = GPTConfig.llama(
    vocab_size=128_256,
    context_length=8192,
    d_model=8192,
    n_layers=80,
    n_heads=64,
    n_kv_heads=8,
    d_ff=28_672,
)
SHAPES = {
    "GPT-2 124M": GPTConfig.gpt2("124M"),
    "Llama 1.1B": GPTConfig.llama(),
    "Llama 8B": LLAMA_8B,
    "Llama 70B": LLAMA_70B,
}
FLOPS_PER_S = 395e12


@pytest.mark.parametrize("name", SHAPES)
def test_memory(name):
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| {name}"))
    state, kept, again = (float(x) for x in re.findall(r"([\d.]+) GB", row)[:3])
    config = SHAPES[name]
    assert state == pytest.approx(12 * count_parameters(config) / 1e9, rel=0.05)
    for said, recompute in ((kept, False), (again, True)):
        memory = memory_bytes(config, 1, activation_bytes=2, activation_checkpointing=recompute)
        assert said == pytest.approx(memory.activations_bytes / 1e9, rel=0.15)


@pytest.mark.parametrize(("kind", "bytes_per_parameter"), [("ddp", 8), ("fsdp", 12)])
def test_tokens_that_hide_the_wires(kind, bytes_per_parameter):
    row = [line for line in PAGE.splitlines() if line.startswith(f"| {kind} |")][1]
    said = [float(x.replace(",", "")) for x in re.findall(r"[\d,]{4,}", row)]
    for tokens, bandwidth in zip(said, (450e9, 50e9), strict=True):
        wanted = bytes_per_parameter / 6 * FLOPS_PER_S / bandwidth
        assert tokens == pytest.approx(wanted, rel=0.03)


def test_data_and_faults():
    tokens_per_s = 1000 * FLOPS_PER_S / flops_per_token(LLAMA_8B)
    assert tokens_per_s == pytest.approx(7.7e6, rel=0.01)
    assert 4 * tokens_per_s == pytest.approx(31e6, rel=0.02)
    hours = 54 * 24 * 16_384 / 419 / 1000
    assert hours == pytest.approx(51, rel=0.01)
    assert math.sqrt(2 * 1 * hours * 3600) == pytest.approx(600, rel=0.05)
