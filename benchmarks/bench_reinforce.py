"""GRPO of SmolLM2-135M on additions: the reward on the test set before and after, and the cost.

    groundup import smollm2 --out runs/smollm2
    python benchmarks/bench_reinforce.py runs/smollm2

Costs are CPU-seconds of one thread, of the whole command with both tests.
"""

import argparse
import tempfile
import time
from pathlib import Path

from groundup.alignment.reinforce.config import ReinforceConfig
from groundup.alignment.reinforce.reinforce import reinforce
from groundup.alignment.reinforce.result import ReinforceResult


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            start_s = time.process_time()
            result = reinforce(
                ReinforceConfig(
                    run=options.run,
                    out=Path(folder) / "reinforced",
                    steps=options.steps,
                    seed=seed,
                    threads=1,
                )
            )
            cost_s = time.process_time() - start_s
            assert isinstance(result, ReinforceResult)
            assert result.after is not None
            print(
                f"seed {seed}: {options.steps} steps, {cost_s:.0f} CPU-s. Reward "
                f"{result.before.mean_reward:.3f} -> {result.after.mean_reward:.3f}. "
                f"{result.verdict} Groups {result.n_groups}, equal {result.n_equal_groups}.",
                *(f"{name}: {a:.3f} -> {b:.3f}." for name, a, b in result.untrained),
                flush=True,
            )


if __name__ == "__main__":
    main()
