"""LoRA and DoRA beside peft: forward and backward pass of the blocks of SmolLM2's shape, in bf16.

    pip install peft transformers
    python benchmarks/bench_lora.py

Both sides have the same sizes, random weights in bfloat16, adapters of rank 16 on all linear maps,
and the same ids. Logits are left out: what differs there is not LoRA. Rounds are interleaved;
costs are CPU-seconds of one thread.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import peft
import torch
import transformers
from torch import nn

from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.model.lora import add_lora, lora_parameters
from groundup.model.lora_config import LoRAConfig


def ours(variant: str, n_layers: int) -> nn.Module:
    config = GPTConfig.llama(
        vocab_size=4096, context_length=2048, d_model=576, n_layers=n_layers, n_heads=9,
        n_kv_heads=3, d_ff=1536, tie_embeddings=True,
    )  # fmt: skip
    model = GPT(config, seed=0)
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()
    add_lora(model, LoRAConfig(rank=16, variant=variant), seed=0)
    return model.train()


def theirs(variant: str, n_layers: int) -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=4096, hidden_size=576, num_hidden_layers=n_layers, num_attention_heads=9,
        num_key_value_heads=3, intermediate_size=1536, tie_word_embeddings=True,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).bfloat16()
    settings = peft.LoraConfig(
        r=16, lora_alpha=32, target_modules="all-linear", use_dora=variant == "dora"
    )
    return peft.get_peft_model(model, settings).train()


def step_mine(model: Any, ids: torch.Tensor) -> None:
    model.hidden(ids).float().sum().backward()


def step_other(model: Any, ids: torch.Tensor) -> None:
    # As its users train: the adapters are float32, the products bfloat16.
    with torch.autocast("cpu", torch.bfloat16):
        model.base_model.model.model(ids).last_hidden_state.float().sum().backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ids = torch.randint(4096, (options.rows, options.length))
    for variant in ("lora", "dora"):
        mine, other = ours(variant, options.layers), theirs(variant, options.layers)
        n_mine = sum(p.numel() for p in lora_parameters(mine).values())
        n_other = sum(p.numel() for p in other.parameters() if p.requires_grad)
        assert n_mine == n_other
        steps = (partial(step_mine, mine, ids), partial(step_other, other, ids))
        costs = [[cost(step) for step in steps] for _ in range(options.rounds)]
        a, b = (statistics.median(column) for column in zip(*costs, strict=True))
        n = ids.numel()
        print(
            f"{variant}: {a:.3f} CPU-s ({n / a:.0f} tokens/CPU-s), peft {b:.3f} "
            f"({n / b:.0f} tokens/CPU-s): {b / a:.2f} x",
            flush=True,
        )


def cost(step: Callable[[], None]) -> float:
    start_s = time.process_time()
    step()
    return time.process_time() - start_s


if __name__ == "__main__":
    main()
