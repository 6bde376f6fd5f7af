"""A bare training loop that reads nothing, for bench_gpu.py: how `torch.compile` is asked."""

import time
from collections.abc import Mapping
from typing import Any

import torch

from groundup.base.config import from_mapping
from groundup.model import gpu_loss
from groundup.model.config import GPTConfig
from groundup.model.count import gpu_loss_rows
from groundup.model.gpt import GPT
from groundup.train.optimizer import Optimizer, OptimizerConfig
from groundup.train.precision import MixedPrecision

VARIANTS: dict[str, dict[str, Any]] = {
    "as in the product": {},
    "logits in parts of 8,192 rows": {},
    "CUDA graphs": {"mode": "reduce-overhead"},
    "coordinate descent": {"options": {"coordinate_descent_tuning": True}},
    "max-autotune": {"mode": "max-autotune-no-cudagraphs"},
}


def bare_tokens_per_s(
    name: str, shape: Mapping[str, Any], *, device: str, batch_size: int, steps: int
) -> float:
    """Measure one of the variants, with AdamW; a third of the steps is not timed."""
    torch._dynamo.reset()
    config = from_mapping(GPTConfig, dict(shape))
    model = GPT(config, seed=0).to(device)
    optimizer = Optimizer(model, OptimizerConfig(name="adamw", learning_rate=1e-4))
    on_gpu = device == "cuda"
    loss = MixedPrecision(model, torch.bfloat16 if on_gpu else torch.float32)
    if on_gpu:
        loss.compile(dynamic=False, **VARIANTS[name])
    parts = name.startswith("logits in parts")
    gpu_loss.gpu_loss_rows = (lambda vocab_size, *, compiled: 2**13) if parts else gpu_loss_rows
    T = config.context_length
    ids = torch.randint(config.vocab_size, (batch_size, T + 1), device=device)
    began_at = 0.0
    for step in range(steps):
        if step == steps // 3:
            _wait(on_gpu)
            began_at = time.perf_counter()
        torch.compiler.cudagraph_mark_step_begin()
        optimizer.zero_grad()
        loss(ids[:, :-1], ids[:, 1:]).backward()
        optimizer.step(1.0)
    _wait(on_gpu)
    return (steps - steps // 3) * batch_size * T / (time.perf_counter() - began_at)


def _wait(on_gpu: bool) -> None:
    if on_gpu:
        torch.cuda.synchronize()
