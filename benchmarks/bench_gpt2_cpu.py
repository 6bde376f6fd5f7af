"""Compare training throughput and loss curves of GPT-2 124M with `transformers` on a CPU.

    python benchmarks/bench_gpt2_cpu.py DATA [--rounds 3] [--curve-steps 200 --curve-batch 4x512]

DATA is encoded with the GPT-2 tokenizer (`groundup prepare TEXT --tokenizer FOLDER`). Each round
times some steps of both sides, one directly after the other, on the same cores: forward, backward,
AdamW. The peer is `GPT2LMHeadModel` in float32, eager, with torch's fused AdamW. groundup trains
the same shape with its own training code, in the dtype that it chooses on this machine. The FLOP/s
are compared with the fastest bfloat16 and float32 matrix products of this machine. Then groundup
trains on the same batches in bfloat16 and in float32, and both loss curves are printed.

With `--against TREE` nothing of this runs. Instead, the version of groundup in TREE (`git worktree
add TREE REVISION`) and this one train in turns on the same random tokens, each in a process of its
own that keeps freed memory as training runs do. The ratio of their speeds is printed, and how far
apart their losses are:

    python benchmarks/bench_gpt2_cpu.py --against TREE [--dtype bf16] [--rounds 3]

A processor without bfloat16 units gains nothing from bfloat16. There the bfloat16 curve is computed
with products that are summed in float32 and rounded once, as bfloat16 units do it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from groundup.base.device import choose_dtype
from groundup.data.loader import Loader
from groundup.data.windows import Windows
from groundup.model.config import GPTConfig
from groundup.model.count import flops_per_token
from groundup.model.gpt import GPT
from groundup.train.data import Data, open_data
from groundup.train.optimizer import Optimizer, OptimizerConfig
from groundup.train.precision import MixedPrecision

B, T = 4, 512
RATE = 3e-4
Step = Callable[[torch.Tensor, torch.Tensor], float]


def theirs() -> Step:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = GPT2LMHeadModel(GPT2Config(n_positions=T, **off))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)

    def step(inputs: torch.Tensor, targets: torch.Tensor) -> float:
        logits = model(inputs).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def ours(dtype: torch.dtype) -> Step:
    model = GPT(GPTConfig.gpt2("124M", context_length=T), seed=0)
    optimizer = Optimizer(
        model,
        OptimizerConfig(name="adamw", learning_rate=RATE, weight_decay=0.0, adam_beta2=0.999),
    )
    loss = MixedPrecision(model, dtype)

    def step(inputs: torch.Tensor, targets: torch.Tensor) -> float:
        optimizer.zero_grad()
        nats = loss(inputs, targets)
        nats.backward()
        optimizer.step(1.0)
        return nats.item()

    return step


class RoundedProducts(TorchDispatchMode):
    """Compute bfloat16 products with sums in float32, which is fast on every processor."""

    PRODUCTS = frozenset(
        getattr(torch.ops.aten, name).default for name in ("mm", "bmm", "addmm", "baddbmm")
    )

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func not in self.PRODUCTS or args[0].dtype != torch.bfloat16:
            return func(*args, **(kwargs or {}))
        exact = (arg.float() if isinstance(arg, torch.Tensor) else arg for arg in args)
        return func(*exact, **(kwargs or {})).to(torch.bfloat16)


def peak_flops_per_s(dtype: torch.dtype, size: int = 2048) -> float:
    """Measure the fastest of several square matrix products."""
    a = torch.randn(size, size).to(dtype)
    spans = []
    for _ in range(12):
        began_at = time.perf_counter()
        a @ a
        spans.append(time.perf_counter() - began_at)
    return 2 * size**3 / min(spans)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--curve-steps", type=int, default=200)
    parser.add_argument("--curve-batch", default=f"{B}x{T}", help="sequences x tokens")
    parser.add_argument("--against", type=Path, help="source tree of another version")
    parser.add_argument("--dtype", default="auto", help="auto, fp32 or bf16 (with --against)")
    options = parser.parse_args()
    if options.against:
        compare_versions(options)
        return
    data = open_data(options.data)
    dtype = choose_dtype("auto", torch.device("cpu"))
    if options.rounds:
        compare_speed(data, dtype, options)
    if options.curve_steps:
        compare_curves(data, dtype, options)


def compare_speed(data: Data, dtype: torch.dtype, options: argparse.Namespace) -> None:
    loader = Loader(Windows(data.train, T), B, seed=1)
    sides: dict[str, Step] = {"transformers, float32": theirs(), "groundup": ours(dtype)}
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for step in sides.values():
        step(*loader.batch(0))
    for _ in range(options.rounds):
        for name, step in sides.items():
            began_at = time.perf_counter()
            for k in range(options.steps):
                step(*loader.batch(k))
            speeds[name].append(options.steps * B * T / (time.perf_counter() - began_at))
    for name, values in speeds.items():
        print(f"{name:<24} {statistics.median(values):8,.0f} tokens/s")
    ratios = [one / other for other, one in zip(*speeds.values(), strict=True)]
    print(f"ratio {statistics.median(ratios):.2f} (median of {len(ratios)})")
    flops = flops_per_token(GPTConfig.gpt2("124M", context_length=T))
    reached = statistics.median(speeds["groundup"]) * flops
    for kind in (torch.bfloat16, torch.float32):
        peak = peak_flops_per_s(kind)
        print(f"{reached / 1e9:,.0f} GFLOP/s: {reached / peak:.0%} of {peak / 1e9:,.0f} ({kind})")


def compare_versions(options: argparse.Namespace) -> None:
    sides = {"this version": Path(__file__).resolve().parents[1], "the other one": options.against}
    workers = {name: start_worker(tree, options) for name, tree in sides.items()}
    found: dict[str, list[Any]] = {name: [] for name in sides}
    for k in range(1 + options.rounds):
        for name, worker in workers.items():
            print(file=worker.stdin, flush=True)
            turn = json.loads(worker.stdout.readline())
            found[name] += [turn] if k else []  # the first one allocates the memory
            print(f"round {k}, {name}: {turn['wall']:.2f} s, {turn['cpu']:.2f} CPU-s", flush=True)
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    for name, turns in found.items():
        wall_s, cpu_s = (
            statistics.median(turn[kind] for turn in turns) for kind in ("wall", "cpu")
        )
        speed = options.steps * B * T / wall_s
        print(f"{name:<14} {speed:8,.0f} tokens/s, {cpu_s / options.steps:.2f} CPU-s per step")
    pairs = list(zip(*found.values(), strict=True))
    for kind in ("wall", "cpu"):
        ratio = statistics.median(other[kind] / this[kind] for this, other in pairs)
        print(f"ratio of {kind} time: {ratio:.3f} (median of {len(pairs)})")
    this, other = ([nats for turn in turns for nats in turn["nats"]] for turns in found.values())
    largest = max(abs(a - b) for a, b in zip(this, other, strict=True))
    print(f"largest difference of a loss: {largest:.2g} nats")


def start_worker(tree: Path, options: argparse.Namespace) -> "subprocess.Popen[str]":
    worker = Path(__file__).with_name("gpt2_cpu_version.py")
    dtype = choose_dtype(options.dtype, torch.device("cpu"))
    settings = str(tree), str(dtype).removeprefix("torch."), str(options.steps), f"{B}x{T}"
    return subprocess.Popen(
        [sys.executable, str(worker), *settings],
        env=os.environ | {"PYTHONPATH": str(tree / "src")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def compare_curves(data: Data, dtype: torch.dtype, options: argparse.Namespace) -> None:
    n_windows, context_length = map(int, options.curve_batch.split("x"))
    loader = Loader(Windows(data.train, context_length), n_windows, seed=1)
    low, exact = ours(torch.bfloat16), ours(torch.float32)
    has_none = dtype != torch.bfloat16
    print("bfloat16: float32 products, rounded" if has_none else "bfloat16: native")
    curves: list[tuple[float, float]] = []
    for k in range(options.curve_steps):
        inputs, targets = loader.batch(k)
        with RoundedProducts() if has_none else nullcontext():
            rounded_nats = low(inputs, targets)
        curves.append((rounded_nats, exact(inputs, targets)))
        if (k + 1) % 20 == 0:
            recent = curves[-20:]
            means = [statistics.mean(each) for each in zip(*recent, strict=True)]
            print(f"step {k + 1}: bfloat16 {means[0]:.4f}, float32 {means[1]:.4f}", flush=True)


if __name__ == "__main__":
    main()
