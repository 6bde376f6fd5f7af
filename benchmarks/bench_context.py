"""Whether long contexts are used: needles, and the loss of mixed layers beside full attention.

    python benchmarks/bench_context.py needle [--layers wg ww] [--steps 1500]
    python benchmarks/bench_context.py loss DATA [--layers wwwg g] [--steps 300] [--seeds 3]

`needle` prepares the text `needles` and trains each pattern of layers with the recipe
recipes/pretrain/needles.toml. It prints how many values the model tells at each depth of texts of
--tokens tokens, also longer ones than it was trained on. Layers of ww see 126 tokens back: they are
the control, which must fail beyond.

`loss` trains each pattern for the same steps with the same seeds on a data folder. It prints the
validation loss of each run, and the mean difference from the last pattern with its 95 % interval
(Student's t over the seeds).
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import scipy.stats

from groundup.base.files import read_json
from groundup.base.run import RunFolder

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "pretrain" / "needles.toml"


def groundup(*arguments: object) -> None:
    command = [sys.executable, "-m", "groundup.cli.main", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def needle(options: argparse.Namespace, folder: Path) -> None:
    data = folder / "data"
    groundup("prepare", "needles", "--out", data, "--no-audit")
    groundup("train-tokenizer", data, "--vocab-size", 768)
    for layers in options.layers or ("wg", "ww"):
        run = folder / layers
        began_at = time.monotonic()
        groundup(
            *("pretrain", "--config", RECIPE, "--data", data, "--out", run),
            *("--layers", layers, "--n-layers", len(layers), "--steps", options.steps),
        )
        print(f"{layers}: trained in {time.monotonic() - began_at:.0f} s", flush=True)
        for n_tokens in options.tokens:
            groundup("evaluate", run, "--needle", n_tokens)
            found = read_json(run / "evaluation" / f"needle-{n_tokens}.json")
            shares = [each["recall"] for each in found["depths"]]
            print(
                f"{layers}, {n_tokens:,} tokens: "
                + " ".join(f"{100 * each['n_right'] / each['n']:.0f}" for each in shares)
                + f" % (of {shares[0]['n']} each; chance {100 * found['chance']:.1f} %)",
                flush=True,
            )


def loss(options: argparse.Namespace, folder: Path) -> None:
    patterns = options.layers or ("wwwg", "g")
    found: dict[str, list[float]] = {layers: [] for layers in patterns}
    for seed in range(options.seeds):
        for layers, losses in found.items():
            run = folder / f"{layers}-{seed}"
            window = ("--window", options.window) if "w" in layers else ()
            groundup(
                *("pretrain", "--data", options.data, "--out", run, "--seed", seed),
                *("--layers", layers, *window, "--context-length", options.context_length),
                *("--d-model", options.d_model, "--n-layers", 4, "--n-heads", 4),
                *("--steps", options.steps, "--batch-size", options.batch_size),
                *("--validation-windows", 64, "--validate-every", 0, "--sample-every", 0),
            )
            rows = RunFolder(run).read_metrics(names=("validation_loss_nats",))
            losses.append(rows[-1]["validation_loss_nats"])
            print(f"{layers}, seed {seed}: {losses[-1]:.4f} nats/token", flush=True)
    *others, last = patterns
    for layers in others:
        pairs = zip(found[layers], found[last], strict=True)
        differences = [one - other for one, other in pairs]
        mean, n = statistics.mean(differences), len(differences)
        half = scipy.stats.t.ppf(0.975, n - 1) * statistics.stdev(differences) / n**0.5
        print(f"{layers} - {last}: {mean:+.4f} nats/token (95 % interval +- {half:.4f})")


def main() -> None:
    parser = argparse.ArgumentParser()
    modes = parser.add_subparsers(required=True)
    one = modes.add_parser("needle")
    one.set_defaults(measure=needle)
    one.add_argument("--steps", type=int, default=1500)
    one.add_argument("--tokens", type=int, nargs="+", default=[8192, 65_536])
    two = modes.add_parser("loss")
    two.set_defaults(measure=loss)
    two.add_argument("data", type=Path)
    two.add_argument("--steps", type=int, default=300)
    two.add_argument("--seeds", type=int, default=3)
    two.add_argument("--context-length", type=int, default=1024)
    two.add_argument("--window", type=int, default=256)
    two.add_argument("--d-model", type=int, default=128)
    two.add_argument("--batch-size", type=int, default=4)
    for mode in (one, two):
        mode.add_argument("--layers", nargs="+")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.measure(options, Path(folder))


if __name__ == "__main__":
    main()
