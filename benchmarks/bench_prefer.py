"""Tune an assistant on preferences, and compare it with what needs no language model.

    python benchmarks/bench_prefer.py RUN RECORDS --out FOLDER [--folds N] [setting=value ...]

RUN is an imported SmolLM2-135M-Instruct, RECORDS the 1,100 pairs of the book's chapter 7. The split
is the book's: the first 935 pairs train, the next 110 test, the last 55 choose the best step. With
`--folds` every pair is tested once, and near duplicates of a prompt stay in one fold. Settings are
those of `groundup prefer`, such as learning_rate=0.0002.

Times are CPU-seconds of one core (user + system). An interrupted run is resumed; its CPU-seconds
are then those of the last session only.
"""

import argparse
import resource
import tomllib
from pathlib import Path
from time import process_time

import torch

from groundup.alignment.prefer.config import PreferConfig
from groundup.alignment.prefer.prefer import prefer
from groundup.alignment.prefer.result import PreferResult, accuracy_rows, change_rows
from groundup.base.fields import replace_settings
from groundup.train.step import Step


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("records", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folds", type=int)
    parser.add_argument("settings", nargs="*")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = tomllib.loads("\n".join(options.settings))
    usual = {"run": options.run, "records": options.records, "out": options.out, "threads": 1}
    how = {"folds": options.folds} if options.folds else {"split": "in-order"}
    config = replace_settings(PreferConfig(), **{**usual, **how, **settings})

    def on_reference(done: int, n_pairs: int) -> None:
        if done == n_pairs:
            print(f"reference: {n_pairs} pairs, {process_time():.0f} CPU-s so far", flush=True)

    def on_step(step: Step) -> None:
        if step.validation_loss_nats is not None:
            print(
                f"step {step.step}: loss {step.loss_nats:.4f}, validation loss "
                f"{step.validation_loss_nats:.4f}, {process_time():.0f} CPU-s so far",
                flush=True,
            )

    result = prefer(config, on_step, on_reference, lambda name: print(name, flush=True))
    assert isinstance(result, PreferResult)
    reports = result.reports()
    for row in [*accuracy_rows(reports), *change_rows(reports)]:
        print("  ".join(row))
    for sentence in [*result.verdict, *result.left_out, *result.warnings]:
        print(sentence)
    trained = result.trained
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{trained.n_steps} steps, best {trained.best_step}, {process_time():.0f} CPU-s, "
        f"{peak_gb:.1f} GB, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
