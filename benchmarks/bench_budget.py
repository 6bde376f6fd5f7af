"""Compare the model that `--budget` chooses with its neighbors, which get the same time.

    python benchmarks/bench_budget.py DATA [DATA ...] [--minutes 1 5 20] [--out FILE]

The neighbors are the two next smaller and larger sizes, with everything else from the budget, and
the chosen size with dropouts of 0 to 0.3. Each run is a `groundup pretrain` process of its own; the
runs are sequential. Loss is that of the last checkpoint on the complete validation set. The two
losses beside it were measured within the run: at its end, and the lowest one. With --out the runs
are kept as JSON lines, and those that the file has already are not repeated.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from groundup.base.run import RunFolder
from groundup.evaluation.load import load
from groundup.evaluation.loss import evaluate_loss
from groundup.planning.budget import SHAPES, shape_settings
from groundup.train.data import open_data

_DROPOUTS = (0.0, 0.1, 0.2, 0.3)


def measure(data: Path, minutes: float, options: list[str], out: Path) -> dict[str, Any]:
    """Train, and return what there is to say of the run."""
    command = [sys.executable, "-m", "groundup", "pretrain", str(data), "--out", str(out)]
    began_at = time.monotonic()
    subprocess.run(
        [*command, "--budget", f"{minutes * 60:g}s", *options], check=True, capture_output=True
    )
    elapsed_s = time.monotonic() - began_at
    folder = RunFolder(out)
    opened, model = open_data(data), load(folder.latest() or out).model
    loss = evaluate_loss(model, opened.validation, tokenizer=opened.tokenizer)
    rows = folder.read_metrics()
    within = [row["validation_loss_nats"] for row in rows if row.get("validation_loss_nats")]
    return {
        "loss_nats": loss.nats,
        "bits_per_byte": loss.bits_per_byte,
        "last_nats": within[-1],
        "lowest_nats": min(within),
        "shape": [model.config.n_layers, model.config.d_model],
        "dropout": model.config.dropout,
        "passes": rows[-1]["n_targets"] / opened.train.n_tokens,
        "elapsed_s": elapsed_s,
    }


def neighbors(chosen: dict[str, Any]) -> dict[str, list[str]]:
    """The command-line options of each neighbor."""
    found, place = {}, SHAPES.index(tuple(chosen["shape"]))
    for offset in (1, -1, 2, -2):
        if 0 <= place + offset < len(SHAPES):
            sizes = shape_settings(SHAPES[place + offset])
            options = [f"--{name.replace('_', '-')}={value}" for name, value in sizes.items()]
            found["{}x{}".format(*SHAPES[place + offset])] = options
    sizes = shape_settings(SHAPES[place])
    same = [f"--{name.replace('_', '-')}={value}" for name, value in sizes.items()]
    for dropout in sorted(_DROPOUTS, key=lambda p: abs(p - chosen["dropout"])):
        if dropout != chosen["dropout"]:
            found[f"dropout {dropout}"] = [*same, f"--dropout={dropout}"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 5, 20])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--neighbors", type=int, default=7, help="Neighbors of each chosen run.")
    args = parser.parse_args()
    kept = [json.loads(line) for line in args.out.open()] if args.out and args.out.exists() else []
    print(f"{len(os.sched_getaffinity(0))} cores")

    def run(data: Path, minutes: float, name: str, options: list[str]) -> dict[str, Any]:
        key = {"data": data.name, "minutes": minutes, "name": name}
        for row in kept:
            if key.items() <= row.items():
                return row
        with tempfile.TemporaryDirectory() as folder:
            row = key | measure(data, minutes, options, Path(folder) / "run")
        if args.out:
            with args.out.open("a") as file:
                print(json.dumps(row), file=file)
        return row

    for minutes in args.minutes:
        for data in args.data:
            chosen = run(data, minutes, "chosen", [])
            rows = {"chosen": chosen}
            for name, options in list(neighbors(chosen).items())[: args.neighbors]:
                rows[name] = run(data, minutes, name, options)
            print(f"\n{data.name}, {minutes:g} min: nats per token, last and lowest in the run")
            for name, row in rows.items():
                print(
                    f"{name:>12} {row['shape'][0]}x{row['shape'][1]:<5} {row['dropout']:.1f} "
                    f"{row['passes']:5.1f} passes {row['loss_nats']:.4f}  {row['last_nats']:.4f} "
                    f"{row['lowest_nats']:.4f}  {row['elapsed_s']:.0f} s"
                )
            best = min(row["loss_nats"] for row in rows.values())
            print(
                f"last / lowest {chosen['last_nats'] / chosen['lowest_nats']:.4f}, "
                f"chosen / best of all {chosen['loss_nats'] / best:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
