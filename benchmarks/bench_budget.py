"""Compare the model that `--budget` chooses with its neighbors, which get the same time.

    python benchmarks/bench_budget.py DATA [DATA ...] [--minutes 1 5 20] [--out FILE]

Each run is `groundup pretrain DATA --budget TIME`. The first one chooses everything. Its neighbors
have a given size: the chosen one, the two next smaller and larger ones, and the chosen one with
dropouts of 0 to 0.3. They save the time in which the first run tries other sizes, so the row of the
chosen size shows what that time is worth. The loss is that of the last checkpoint on the complete
validation set. Run it on an idle machine: one that is slower for some minutes favors other runs.
With --out the runs are kept as JSON lines, and those that the file has already are not repeated.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from groundup.base.run import RunFolder
from groundup.evaluation.load import load
from groundup.evaluation.loss import evaluate_loss
from groundup.planning import budget
from groundup.train.data import Data, open_data

_DROPOUTS = (0.0, 0.1, 0.2, 0.3)
_OFFSETS = (0, 1, -1, 2, -2)


def train(
    folder: Path, data: Data, minutes: float, shape: list[int] | None, dropout: float | None
) -> dict[str, Any]:
    """Train under a budget.

    Args:
        folder: The data folder.
        data: Its text.
        minutes: The budget.
        shape: Layers and width. None: chosen.
        dropout: None: chosen.
    """
    options = {"budget": f"{minutes * 60:g}s", "dropout": dropout}
    if shape is not None:
        options |= budget.shape_settings((shape[0], shape[1]))
    with tempfile.TemporaryDirectory() as parent:
        out = Path(parent) / "run"
        command = [sys.executable, "-m", "groundup", "pretrain", str(folder), "--out", str(out)]
        for name, value in options.items():
            if value is not None:
                command += ["--" + name.replace("_", "-"), str(value)]
        subprocess.run(command, check=True, capture_output=True)
        return result(out, data, RunFolder(out).latest() or out)


def result(out: Path, data: Data, checkpoint: Path) -> dict[str, Any]:
    model = load(checkpoint).model
    loss = evaluate_loss(model, data.validation, tokenizer=data.tokenizer)
    rows = RunFolder(out).read_metrics()
    within = [row["validation_loss_nats"] for row in rows if row.get("validation_loss_nats")]
    return {
        "loss_nats": loss.nats,
        "bits_per_byte": loss.bits_per_byte,
        "last_nats": within[-1],
        "lowest_nats": min(within),
        "shape": [model.config.n_layers, model.config.d_model],
        "dropout": model.config.dropout,
        "n_targets": rows[-1]["n_targets"],
        "passes": rows[-1]["n_targets"] / data.n_train_tokens,
        "elapsed_s": rows[-1]["elapsed_s"],
    }


def neighbors(chosen: dict[str, Any]) -> dict[str, tuple[list[int], float | None]]:
    """Shape and dropout of each neighbor, the nearest first."""
    place = budget.SHAPES.index(tuple(chosen["shape"]))
    found: dict[str, tuple[list[int], float | None]] = {}
    for offset in _OFFSETS:
        if 0 <= place + offset < len(budget.SHAPES):
            shape = list(budget.SHAPES[place + offset])
            found["{}x{}".format(*shape)] = (shape, None)
    for dropout in sorted(_DROPOUTS, key=lambda p: abs(p - chosen["dropout"])):
        if dropout != chosen["dropout"]:
            found[f"dropout {dropout}"] = (chosen["shape"], dropout)
    return found


class Kept:
    """The runs of earlier calls, so that none is repeated."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path is not None and path.exists():
            self.rows = [json.loads(line) for line in path.open()]

    def row(self, key: dict[str, Any], train: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        found = next((row for row in self.rows if key.items() <= row.items()), None)
        if found is not None:
            return found
        found = key | train()
        if self.path is not None:
            with self.path.open("a") as file:
                print(json.dumps(found), file=file)
        return found


def compare(folder: Path, minutes: float, n_neighbors: int, kept: Kept) -> None:
    """Train the chosen model and its neighbors, and print them."""
    data, key = open_data(folder), {"data": folder.name, "minutes": minutes}
    run = partial(train, folder, data, minutes)
    chosen = kept.row(key | {"name": "chosen"}, partial(run, None, None))
    rows = [chosen]
    for name, (shape, dropout) in list(neighbors(chosen).items())[:n_neighbors]:
        rows.append(kept.row(key | {"name": name}, partial(run, shape, dropout)))
    print(f"\n{folder.name}, {minutes:g} min: nats per token; last and lowest in the run")
    for row in rows:
        print(
            f"{row['name']:>12} {row['shape'][0]}x{row['shape'][1]:<5} {row['dropout']:.1f} "
            f"{row['passes']:5.1f} passes {row['loss_nats']:.4f}  {row['last_nats']:.4f} "
            f"{row['lowest_nats']:.4f}  {row['elapsed_s']:.0f} s"
        )
    best = min(row["loss_nats"] for row in rows)
    print(
        f"last / lowest {chosen['last_nats'] / chosen['lowest_nats']:.4f}, "
        f"chosen / best of all {chosen['loss_nats'] / best:.4f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 5, 20])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--neighbors", type=int, default=8, help="Neighbors of each chosen run.")
    args = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores")
    kept = Kept(args.out)
    for minutes in args.minutes:
        for folder in args.data:
            compare(folder, minutes, args.neighbors, kept)


if __name__ == "__main__":
    main()
