"""Compare the time to a validation loss with nanoGPT's recipe for a CPU.

    python benchmarks/bench_time_to_loss.py TEXT [--rounds 3] [--bpe 2048] [--longer 3] [--also=""]

TEXT is a file or a folder. It is encoded as characters or, with --bpe, with byte-level BPE. Both
groundup runs take --longer times the steps of their recipes, because a vocabulary of thousands of
tokens needs more steps than one of characters, and the options in --also.

Each round runs the peer (benchmarks/peer_nanogpt.py), then `groundup pretrain` with the plain and
the fast recipe, each as a separate process. The time includes imports, training and the evaluation
on the complete validation set. All runs read the same token ids; tokenization is not included.
After the timing, `groundup evaluate` measures the loss of groundup again, in float32.
"""

import argparse
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import numpy as np

from groundup.base.results import read_results
from groundup.data.store import TokenStore

HERE = Path(__file__).resolve().parent
RECIPES = {
    "plain (4 layers, 128 wide)": "shakespeare-char.toml",
    "fast (1 layer, n-gram embeddings)": "shakespeare-char-fast.toml",
}


def timed(command: list[str]) -> tuple[float, str]:
    started_at = time.monotonic()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.monotonic() - started_at, done.stdout


def groundup(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "groundup.cli.main", *map(str, arguments)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("text", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bpe", type=int, help="vocabulary size of BPE; default: characters")
    parser.add_argument("--longer", type=float, default=1.0, help="factor on the recipes' steps")
    parser.add_argument("--also", default="", help="options for groundup pretrain")
    options = parser.parse_args()
    also = shlex.split(options.also)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        timed(groundup("prepare", options.text, "--out", data))
        kind = ["--kind", "characters"] if options.bpe is None else ["--vocab-size", options.bpe]
        timed(groundup("train-tokenizer", data, *kind))
        sides = []
        for side in ("train", "validation"):
            store = TokenStore.open(data / side)
            sides.append(Path(folder) / f"{side}.npy")
            np.save(sides[-1], store.read(0, store.n_tokens).astype(np.int64))
        ratios: dict[str, list[float]] = {name: [] for name in RECIPES}
        for number in range(options.rounds):
            peer = [sys.executable, str(HERE / "peer_nanogpt.py"), *map(str, sides)]
            peer_s, output = timed(peer)
            found = re.search(r"[\d.]+", output)
            assert found is not None
            print(f"round {number + 1}: nanoGPT's recipe {peer_s:6.1f} s, loss {found[0]}")
            for name, recipe in RECIPES.items():
                run = Path(folder) / f"{recipe}-{number}"
                path = HERE.parent / "recipes" / "pretrain" / recipe
                steps = round(options.longer * tomllib.loads(path.read_text())["steps"])
                settings = ["--recipe", path, "--steps", steps, "--out", run, *also]
                ours_s, _ = timed(groundup("pretrain", data, *settings))
                timed(groundup("evaluate", run))
                nats = read_results(run)["evaluate"]["nats"]
                ratios[name].append(peer_s / ours_s)
                print(
                    f"  {name:<34} {ours_s:6.1f} s, loss {nats:.4f}: {peer_s / ours_s:.1f} x faster"
                )
        for name, values in ratios.items():
            print(f"{name:<36} {statistics.median(values):.1f} x faster (median of {len(values)})")


if __name__ == "__main__":
    main()
