"""Long contexts on a CPU.

    python benchmarks/bench_long.py layers [--lengths 1024 8192 65536] [--dtypes float32 bfloat16]
    python benchmarks/bench_long.py step [--tokens 65536 262144 1500000]

`layers`: tokens per second of one layer with its MLP, forward and backward, on one core: attention
in a window (w), the gated delta rule (d) and full attention (g), with the widths of the small model
of `groundup story`. `step`: see bench_segments.py.
"""

import argparse
import time

import torch
from bench_segments import add_options, measure_steps

from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT, Block

_REPEATS = 3
_LONG_S = 20.0
"""A measurement that takes longer is not repeated."""


def main() -> None:
    parser = argparse.ArgumentParser()
    modes = parser.add_subparsers(dest="mode", required=True)
    layers = modes.add_parser("layers")
    layers.add_argument("--kinds", nargs="+", default=["w", "d", "g"])
    layers.add_argument("--lengths", type=int, nargs="+", default=[1024, 8192, 65_536])
    layers.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    layers.add_argument("--window", type=int, default=512)
    add_options(modes.add_parser("step"))
    options = parser.parse_args()
    if options.mode == "step":
        measure_steps(options)
        return
    torch.set_num_threads(1)
    measure_layers(options)


def measure_layers(options: argparse.Namespace) -> None:
    """Print a line for each format, kind of layer and length."""
    print("format, kind, T: tokens/s of CPU time")
    for name in options.dtypes:
        for kind in options.kinds:
            for length in options.lengths:
                rate = layer_tokens_per_s(kind, length, options.window, getattr(torch, name))
                print(f"{name}, {kind}, {length:,}: {rate:,.0f}", flush=True)


def layer_tokens_per_s(kind: str, length: int, window: int, dtype: torch.dtype) -> float:
    """Measure one layer, forward and backward."""
    # A second kind, so that full attention has no positions either.
    layers = kind + ("d" if kind != "d" else "g")
    more = {"window": window} if kind == "w" else {}
    config = GPTConfig(context_length=length, n_layers=2, layers=layers, **more)
    model = GPT(config, seed=1).to(dtype)
    block = model.blocks[0]
    assert isinstance(block, Block)
    x = torch.randn(1, length, config.d_model, dtype=dtype, requires_grad=True)
    rotary = model.rotary_tables(x)[block.kind]
    best = float("inf")
    for _ in range(_REPEATS):
        began_at = time.process_time()
        block(x, rotary).sum().backward()
        best = min(best, time.process_time() - began_at)
        if best > _LONG_S:
            break
    return length / best


if __name__ == "__main__":
    main()
