"""Train GPT-2 124M on a short story for ten epochs, as books do, and measure the overfitting.

    python benchmarks/bench_verdict.py STORY.txt GPT2_TOKENIZER_FOLDER

This takes about ten minutes on 2 cores and 6 GB of memory. Books report that the loss starts near
9.8 on both sets, and ends below 1 on the training set and above 6 on the validation set.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from groundup.base.results import read_results

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "pretrain" / "gpt2-124M-verdict.toml"


def groundup(*arguments: object) -> None:
    command = [sys.executable, "-m", "groundup.cli.main", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main(story: str, tokenizer: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data, run = Path(folder) / "data", Path(folder) / "run"
        groundup("prepare", story, "--tokenizer", tokenizer, "--out", data)
        started_at = time.monotonic()
        groundup("pretrain", data, "--recipe", RECIPE, "--out", run)
        elapsed_s = time.monotonic() - started_at
        groundup(
            "evaluate", run / "checkpoints" / (run / "checkpoints" / "latest").read_text().strip()
        )
        lines = (run / "metrics.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        after = read_results(run)["evaluate"]
    print(f"ten epochs, {elapsed_s:.0f} s")
    for row in rows:
        if "validation_loss_nats" in row:
            print(
                f"  step {row['step']:3d}  validation {row['validation_loss_nats']:.2f} nats/token"
            )
    print(f"first batch                {rows[0]['loss_nats']:.2f} nats/token")
    print(f"training set, at the end   {after['train_nats']:.2f} nats/token")
    print(f"validation set, at the end {after['nats']:.2f} nats/token")


if __name__ == "__main__":
    main(*sys.argv[1:])
