"""One exact training step over a long window, in segments: peak memory, time, and the plan.

    python benchmarks/bench_long.py step [--data FOLDER] [--tokens 65536 262144 1500000]
        [--layers wdwd] [--width 192] [--window 512] [--segment 8192] [--dtype auto]

Each step runs in a process of its own: reading the window, forward, backward and the update. Peak
memory is that of the whole process. Without --data the text is Python's own library, prepared in a
temporary folder with a vocabulary of 2,048 tokens. The last columns are what the peak has grown by
from the first length on, beside the states between segments and 16 bytes per token (input and
target), and the time per token as a multiple of the first one.
"""

import argparse
import json
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from groundup.base.fields import replace_settings
from groundup.base.machine import peak_memory_bytes
from groundup.model.config import GPTConfig
from groundup.planning.memory import count_memory
from groundup.train.build import prepare_training
from groundup.train.config import PretrainConfig
from groundup.train.data import open_data, with_vocabulary
from groundup.train.loop import train_steps

SOURCES = ("*.py", "[a-su-z]*/*.py", "[a-ru-z]*/*/*.py")


def prepared(folder: Path) -> Path:
    """Prepare Python's own library, without its tests."""
    library = Path(sysconfig.get_path("stdlib"))
    command = [sys.executable, "-m", "groundup.cli.main"]
    sources = [str(library / source) for source in SOURCES]
    data = str(folder / "python-library")
    for words in (
        ["prepare", *sources, "--out", data, "--no-audit"],
        ["train-tokenizer", data, "--kind", "bpe", "--vocab-size", "2048"],
    ):
        subprocess.run([*command, *words], check=True, capture_output=True)
    return folder / "python-library"


def step(options: argparse.Namespace) -> None:
    """Run one step in this process, and print what it took as JSON."""
    (n_tokens,) = options.tokens
    config = replace_settings(
        PretrainConfig(data=options.data),
        batch_size=1,
        dtype=options.dtype,
        segment=options.segment,
        model=GPTConfig(
            context_length=n_tokens,
            d_model=options.width,
            n_layers=len(options.layers),
            n_heads=options.width // 64,
            layers=options.layers,
            window=options.window if "w" in options.layers else None,
            norm="layer",
            activation="relu2",
            tie_embeddings=False,
        ),
    )
    data = open_data(options.data)
    config = with_vocabulary(config, data)
    planned = count_memory(config)
    del planned["checkpoint copy"]  # only whole runs write checkpoints
    setup = prepare_training(config, data)
    cpu_s, clock_s = time.process_time(), time.perf_counter()
    parts = (setup.batches, setup.training_loss, setup.optimizer, setup.schedule)
    done = next(train_steps(*parts, read_late=False))  # without the next step
    result = {
        "tokens": n_tokens,
        "peak_bytes": peak_memory_bytes(setup.model.device),
        "planned_bytes": sum(planned.values()),
        "states_bytes": planned["states"],
        "cpu_s": time.process_time() - cpu_s,
        "clock_s": time.perf_counter() - clock_s,
        "loss_nats": done.loss_nats,
        "n_parameters": sum(weight.numel() for weight in setup.model.parameters()),
    }
    print(json.dumps(result))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `bench_long.py step`."""
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tokens", type=int, nargs="+", default=[65_536, 262_144, 1_500_000])
    parser.add_argument("--layers", default="wdwd")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--segment", type=int, default=8192)
    parser.add_argument("--dtype", default="auto")


def measure_steps(options: argparse.Namespace) -> None:
    """Run a step of each length in a process of its own, and print a line for each."""
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or prepared(Path(folder))
        print("tokens, peak MB, planned MB, CPU-s, s, microseconds per token, grown MB, ratio")
        first = None
        for n_tokens in options.tokens:
            words = [sys.executable, __file__, "--data", str(data)]
            words += ["--tokens", str(n_tokens)]
            for name in ("layers", "width", "window", "segment", "dtype"):
                words += [f"--{name}", str(getattr(options, name))]
            done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
            row = json.loads(done.stdout)
            first = first or row
            beside = row["peak_bytes"] - row["states_bytes"] - 16 * row["tokens"]
            at_first = first["peak_bytes"] - first["states_bytes"] - 16 * first["tokens"]
            per_token = row["cpu_s"] / row["tokens"]
            print(
                f"{n_tokens:,}, {row['peak_bytes'] / 1e6:,.0f}, {row['planned_bytes'] / 1e6:,.0f}, "
                f"{row['cpu_s']:.1f}, {row['clock_s']:.1f}, {per_token * 1e6:.0f}, "
                f"{(beside - at_first) / 1e6:+.0f}, "
                f"{per_token * first['tokens'] / first['cpu_s']:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    one = argparse.ArgumentParser()
    add_options(one)
    step(one.parse_args())
