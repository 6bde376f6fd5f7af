"""Compare the model that `--budget` chooses with its neighbors, which get the same time.

    python benchmarks/bench_budget.py DATA [DATA ...] [--minutes 1 5 20] [--out FILE]

The neighbors are the two next smaller and larger sizes, with everything else as a budget sets it,
and the chosen size with dropouts of 0 to 0.3. The chosen run is a real one. Its neighbors have as
many steps as fit in the same time by their speed, measured in alternation with the chosen model's;
so a machine that is slower for some minutes does not favor one of them. Of a neighbor the best
checkpoint counts, of the chosen run the last one, on the complete validation set. With --out the
runs are kept as JSON lines, and those that the file has already are not repeated.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from groundup.base.fields import replace_settings
from groundup.base.run import RunFolder
from groundup.evaluation.load import load
from groundup.evaluation.loss import evaluate_loss
from groundup.planning import budget
from groundup.planning.throughput import probe
from groundup.pretraining.pretrain import pretrain
from groundup.train.config import PretrainConfig
from groundup.train.data import Data, open_data, with_vocabulary

_DROPOUTS = (0.0, 0.1, 0.2, 0.3)
_OFFSETS = (1, -1, 2, -2)
_N_ROUNDS, _PROBE_S = 3, 0.7


def train_chosen(folder: Path, data: Data, minutes: float) -> dict[str, Any]:
    """Train as `--budget` does."""
    with tempfile.TemporaryDirectory() as parent:
        out = Path(parent) / "run"
        command = [sys.executable, "-m", "groundup", "pretrain", str(folder), "--out", str(out)]
        subprocess.run(
            [*command, "--budget", f"{minutes * 60:g}s"], check=True, capture_output=True
        )
        return result(out, data, RunFolder(out).latest() or out)


def train_neighbor(
    folder: Path, data: Data, chosen: dict[str, Any], shape: list[int], dropout: float | None
) -> dict[str, Any]:
    """Train for as long as the chosen run was allowed to.

    Args:
        folder: The data folder.
        data: Its text.
        chosen: The chosen run.
        shape: Layers and width.
        dropout: None: as a budget sets it.
    """
    n_train, n_targets = data.n_train_tokens, chosen["n_targets"]
    allowed = chosen["minutes"] * 60 / chosen["elapsed_s"]
    if allowed < 1.2:  # the chosen run took its time, except that of choosing
        allowed = 1.0
    reference = settings(folder, data, chosen["shape"], chosen["dropout"], n_targets)
    config = settings(folder, data, shape, dropout, n_targets)
    speeds = [targets_per_s(c, data) for _ in range(_N_ROUNDS) for c in (config, reference)]
    ratio = statistics.median(a / b for a, b in zip(speeds[::2], speeds[1::2], strict=True))
    n_targets = int(allowed * ratio * n_targets)
    n_targets = min(n_targets, int(budget._MOST_PASSES * n_train))
    with tempfile.TemporaryDirectory() as parent:
        out = Path(parent) / "run"
        pretrain(replace_settings(settings(folder, data, shape, dropout, n_targets), out=out))
        return result(out, data, out)


def settings(
    folder: Path, data: Data, shape: list[int], dropout: float | None, n_targets: int
) -> PretrainConfig:
    """The settings of a budget for this shape and number of targets."""
    config = with_vocabulary(PretrainConfig(data=folder), data)
    n_layers, d_model = shape
    choice = budget._settings(
        config, frozenset(), (n_layers, d_model), n_targets, data.n_train_tokens
    )
    if dropout is not None:
        choice["dropout"] = dropout
    config = replace_settings(config, **choice)
    steps = max(1, n_targets // (config.batch_size * config.model.context_length))
    every = max(1, steps // 12)
    return replace_settings(
        config, steps=steps, validate_every=every, checkpoint_every=every, validation_windows=256
    )


def targets_per_s(config: PretrainConfig, data: Data) -> float:
    return config.batch_size * config.model.context_length / probe(config, data, _PROBE_S).step_s


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
    chosen = kept.row(key | {"name": "chosen"}, partial(train_chosen, folder, data, minutes))
    rows = [chosen]
    for name, (shape, dropout) in list(neighbors(chosen).items())[:n_neighbors]:
        train = partial(train_neighbor, folder, data, chosen, shape, dropout)
        rows.append(kept.row(key | {"name": name}, train))
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
    parser.add_argument("--neighbors", type=int, default=7, help="Neighbors of each chosen run.")
    args = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores")
    kept = Kept(args.out)
    for minutes in args.minutes:
        for folder in args.data:
            compare(folder, minutes, args.neighbors, kept)


if __name__ == "__main__":
    main()
