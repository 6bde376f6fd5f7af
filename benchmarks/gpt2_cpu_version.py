"""Train GPT-2 124M with the version of groundup in a source tree, for bench_gpt2_cpu.py.

Nothing is imported but torch and that version. Each line of the input asks for some steps; their
times and losses are printed as JSON.
"""

import importlib.util
import json
import sys
import time

import torch


def main() -> None:
    tree, dtype, n_steps, shape = sys.argv[1:]
    B, T = map(int, shape.split("x"))
    sys.path.insert(0, f"{tree}/benchmarks")
    for name in ("groundup.base.malloc", "groundup.base.memory"):  # its training calls it
        if importlib.util.find_spec(name):
            importlib.import_module(name).keep_freed()
    step = importlib.import_module("bench_gpt2_cpu").ours(getattr(torch, dtype))
    torch.manual_seed(1)
    batches = torch.randint(50257, (4, B, T + 1))
    k = 0
    for _ in sys.stdin:
        wall_s, cpu_s, nats = time.perf_counter(), time.process_time(), []
        for _ in range(int(n_steps)):
            ids = batches[k % len(batches)]
            nats.append(step(ids[:, :-1].contiguous(), ids[:, 1:].contiguous()))
            k += 1
        turn = {
            "wall": time.perf_counter() - wall_s,
            "cpu": time.process_time() - cpu_s,
            "nats": nats,
        }
        print(json.dumps(turn), flush=True)


if __name__ == "__main__":
    main()
