"""Time `groundup story` on its default text, and print the results of its models and baselines.

    python benchmarks/bench_story.py

The baselines (n-gram, xz, bag of words) run in the same process, on the same text.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from groundup.base.results import read_results


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        started_at = time.monotonic()
        command = [sys.executable, "-m", "groundup.cli.main", "story"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        elapsed_s = time.monotonic() - started_at
        run = Path(folder) / "runs" / "story"
        found = read_results(run / "data") | read_results(run)
    evaluation, plan, pretrain = found["evaluate"], found["plan"], found["pretrain"]
    classify, instruct = found["classify"], found["instruct"]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"end to end                {elapsed_s / 60:.1f} min")
    print(
        f"pretraining               {pretrain['elapsed_s']:.0f} s, planned {plan['total_s']:.0f} s"
    )
    print(f"training speed            {pretrain['tokens_per_s']:,.0f} tokens/s")
    print(f"model                     {evaluation['bits_per_byte']:.2f} bits per byte")
    print(f"order-3 n-gram            {evaluation['ngram_bits_per_byte']:.2f} bits per byte")
    print(f"xz after the training text {evaluation['xz_bits_per_byte']:.2f} bits per byte")
    for model in classify["models"]:
        scores = model["all"]
        right = f"{scores['accuracy']['n_right']} of {scores['n']}"
        print(f"{model['name']:<25} {right}, log loss {scores['log_loss_nats']:.3f}")
    for when in ("before", "after"):
        share = instruct[when]
        print(f"assistant, {when:<14} {share['n_right']} of {share['n']}")


if __name__ == "__main__":
    main()
