"""Compare the model that `--budget` chooses with a grid of shapes that get the same time.

    python benchmarks/bench_budget.py DATA [--minutes 1 5 20] [--shapes 2x96 2x128 4x128 4x192]

Each run is a separate process; the runs are sequential. For the grid only the shape is set; batch
size, learning rates and schedule come from the budget. So the grid shows whether another shape is
better, not whether another recipe is. The result is bits per byte of the best checkpoint on the
complete validation set, and the duration of the complete command.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from groundup.evaluation.load import load
from groundup.evaluation.loss import evaluate_loss
from groundup.train.data import open_data


def measure(data: Path, minutes: float, options: list[str], out: Path) -> tuple[float, float, str]:
    """Return bits per byte, seconds, and the shape."""
    command = [sys.executable, "-m", "groundup", "pretrain", str(data), "--out", str(out)]
    began_at = time.monotonic()
    subprocess.run(
        [*command, "--budget", f"{minutes * 60:g}s", *options], check=True, capture_output=True
    )
    elapsed_s = time.monotonic() - began_at
    opened, model = open_data(data), load(out).model
    loss = evaluate_loss(model, opened.validation, tokenizer=opened.tokenizer)
    config = model.config
    shape = f"{config.n_layers}x{config.d_model}, T {config.context_length}"
    assert loss.bits_per_byte is not None
    return loss.bits_per_byte, elapsed_s, shape


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 5, 20])
    parser.add_argument("--shapes", nargs="*", default=["2x96", "2x128", "4x128", "4x192"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for minutes in args.minutes:
            found = {}
            for name in ("chosen", *args.shapes):
                options = []
                if name != "chosen":
                    n_layers, d_model = name.split("x")
                    options = ["--n-layers", n_layers, "--d-model", d_model]
                    options += ["--n-heads", str(max(1, int(d_model) // 32))]
                out = Path(folder) / f"{minutes:g}-{name}"
                found[name], elapsed_s, shape = measure(args.data, minutes, options, out)
                print(
                    f"{minutes:g} min, {name:>8} ({shape}): {found[name]:.4f} bits per byte, "
                    f"took {elapsed_s:.1f} s ({elapsed_s / minutes / 60 - 1:+.1%})",
                    flush=True,
                )
            best = min(value for name, value in found.items() if name != "chosen")
            print(f"{minutes:g} min: chosen / best of the grid {found['chosen'] / best:.4f}")


if __name__ == "__main__":
    main()
