"""Dropout and the number of passes over a text: the validation loss at the end of each run.

    python benchmarks/bench_dropout.py DATA [--shapes 2x96 3x128] [--passes 4 10] [--dropouts 0 0.1]

Each run has a fixed number of steps; its other settings are those that `--budget` chooses for as
many tokens. The last column is the lowest validation loss of the run: where it is below the loss at
the end, the model overfits. One thread, one seed.
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path

from groundup.base.fields import replace_settings
from groundup.base.run import RunFolder
from groundup.planning import budget
from groundup.pretraining.pretrain import pretrain
from groundup.train.config import PretrainConfig
from groundup.train.data import open_data, with_vocabulary


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--shapes", nargs="+", default=["2x96", "3x128"])
    parser.add_argument("--passes", type=float, nargs="+", default=[4.0, 10.0, 20.0])
    parser.add_argument("--dropouts", type=float, nargs="+", default=[0.0, 0.1, 0.2])
    options = parser.parse_args()
    data = open_data(options.data)
    n_train = data.train.n_tokens
    print(f"{n_train:,} training tokens")
    print("layers x width, passes, dropout: loss at the end, lowest loss, training loss, CPU-s")
    for shape, passes, dropout in itertools.product(
        options.shapes, options.passes, options.dropouts
    ):
        n_layers, d_model = map(int, shape.split("x"))
        n_targets = int(passes * n_train)
        with tempfile.TemporaryDirectory() as folder:
            config = PretrainConfig(data=options.data, out=Path(folder) / "run")
            config = with_vocabulary(config, data)
            choice = budget._settings(config, frozenset(), (n_layers, d_model), n_targets, n_train)
            config = replace_settings(config, **{**choice, "dropout": dropout})
            steps = n_targets // (config.batch_size * config.model.context_length)
            config = replace_settings(
                config, steps=steps, validate_every=max(1, steps // 12), threads=1
            )
            config = replace_settings(config, validation_windows=512)
            began_at = time.process_time()
            pretrain(config)
            rows = RunFolder(config.out).read_metrics()
        found = [row["validation_loss_nats"] for row in rows if row.get("validation_loss_nats")]
        print(
            f"{shape}, {passes:g}, {dropout:g}: {found[-1]:.4f}, {min(found):.4f}, "
            f"{rows[-1]['loss_nats']:.4f}, {time.process_time() - began_at:.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
