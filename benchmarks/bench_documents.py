"""What separating the documents of a window brings, and what it costs, on many short documents.

    python benchmarks/bench_documents.py [TEXT] [--steps 200] [--seeds 3]

TEXT is a file or a folder that `groundup prepare` reads. By default: the docstrings of Python's
standard library, which every machine has, one document each.

For each seed, `groundup pretrain` trains the same model for the same number of steps and windows
with --documents stream, isolated and packed. All losses are on the tokens of the validation set
that are not the first of their document: with the document alone, and for the model of the stream
also with what comes before the document in the stream, as it was trained. Differences are paired by
seed, with 95 % intervals (Student's t). CPU-seconds are those of the training steps.
"""

import argparse
import ast
import json
import statistics
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.stats
import torch

from groundup.base.fields import replace_settings
from groundup.base.targets import IGNORE_INDEX
from groundup.data.config import PrepareAndEncodeConfig, TrainAndEncodeConfig
from groundup.data.pipeline import prepare_and_encode, train_and_encode
from groundup.data.store import TokenStore
from groundup.data.windows import Windows
from groundup.evaluation.load import load
from groundup.evaluation.loss import evaluate_loss
from groundup.model.gpt import GPT
from groundup.pretraining.pretrain import pretrain
from groundup.train.config import PretrainConfig
from groundup.train.loop import Step

MODES = ("stream", "isolated", "packed")
ALONE, AS_TRAINED = "document alone", "as in the stream"


@dataclass(frozen=True)
class Run:
    """The result of one training run."""

    losses: dict[str, float]
    cpu_s: float
    n_positions: int
    n_targets: int


def write_docstrings(path: Path) -> None:
    """Write the docstrings of Python's standard library as documents in JSON lines."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found: dict[str, None] = {}
    for file in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if {"site-packages", "test", "tests", "idlelib"} & set(file.parts):
            continue
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, kinds) and (text := ast.get_docstring(node)):
                found[text] = None
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in found))


def loss_in_stream(model: GPT, store: TokenStore) -> float:
    """Mean loss with the previous documents in view, without the first tokens of documents."""
    T = model.config.context_length
    stream = Windows(store, T, coverage="exact")
    apart = Windows(store, T, coverage="exact", documents="isolated")
    total, n = 0.0, 0
    model.eval()
    with torch.no_grad():
        for indices in np.array_split(np.arange(len(stream)), -(-len(stream) // 16)):
            inputs, targets = stream.gather(indices)
            targets[apart.ignored(indices)] = IGNORE_INDEX
            n += int((targets != IGNORE_INDEX).sum())
            rows = torch.from_numpy(inputs), torch.from_numpy(targets)
            total += model.loss(*rows, reduction="sum").item()
    return total / n


def train(config: PretrainConfig) -> Run:
    """Train, and measure the validation loss and the time of the steps."""
    times: list[tuple[float, int]] = []

    def on_step(step: Step) -> None:
        if step.step < config.steps:  # the last one includes a validation
            times.append((time.process_time(), step.n_targets))

    result = pretrain(config, on_step)
    model = load(result.run).model
    store = TokenStore.open(config.data / "validation")
    losses = {ALONE: evaluate_loss(model, store, documents="isolated").nats}
    if config.documents == "stream":
        losses[AS_TRAINED] = loss_in_stream(model, store)
    n_positions = (len(times) - 1) * config.batch_size * config.model.context_length
    return Run(losses, times[-1][0] - times[0][0], n_positions, result.n_targets)


def interval(values: list[float]) -> str:
    """The mean, with its 95 % interval."""
    mean, n = statistics.mean(values), len(values)
    if n < 2:
        return f"{mean:+.4f}"
    half = scipy.stats.t.ppf(0.975, n - 1) * statistics.stdev(values) / n**0.5
    return f"{mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", nargs="?")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--context-length", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--d-model", type=int, default=128)
    parser.add_argument("--n-layers", type=int, default=2)
    parser.add_argument("--vocab-size", type=int, default=1024)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = options.text or str(folder / "docstrings.jsonl")
        if options.text is None:
            write_docstrings(Path(source))
        data = folder / "data"
        prepare_and_encode(PrepareAndEncodeConfig(sources=(source,), out=data))
        train_and_encode(TrainAndEncodeConfig(data=data, vocab_size=options.vocab_size))
        store = TokenStore.open(data / "train")
        lengths = np.diff(np.append(store.document_starts, store.n_tokens))
        print(
            f"{store.n_documents:,} documents, {store.n_tokens:,} tokens, median "
            f"{np.median(lengths):.0f} tokens per document",
            flush=True,
        )
        usual = replace_settings(
            PretrainConfig(),
            data=data,
            steps=options.steps,
            batch_size=options.batch_size,
            context_length=options.context_length,
            d_model=options.d_model,
            n_heads=max(1, options.d_model // 32),
            n_layers=options.n_layers,
            validate_every=None,
            checkpoint_every=options.steps,
            sample_every=None,
            curves=False,
        )
        runs: dict[str, list[Run]] = {mode: [] for mode in MODES}
        for seed in range(options.seeds):
            for mode in MODES:  # interleaved, so that other load hits all of them
                out = folder / f"{mode}-{seed}"
                config = replace_settings(usual, out=out, seed=seed, documents=mode)
                run = train(config)
                runs[mode].append(run)
                print(f"seed {seed}, {mode}: {run}", flush=True)
    report(runs)


def report(runs: dict[str, list[Run]]) -> None:
    """Print a row for each way to train and to evaluate."""
    base = [run.losses[AS_TRAINED] for run in runs["stream"]]
    print(
        "trained        evaluated         loss, nats/token  against the stream, as trained\n"
        "-------------  ----------------  ----------------  ------------------------------"
    )
    for mode, of_mode in runs.items():
        for how in of_mode[0].losses:
            losses = [run.losses[how] for run in of_mode]
            differences = [loss - other for loss, other in zip(losses, base, strict=True)]
            mean = statistics.mean(losses)
            print(f"{mode:<13}  {how:<16}  {mean:<16.4f}  {interval(differences)}")
    cost = {
        mode: statistics.median(run.cpu_s / run.n_positions for run in of_mode)
        for mode, of_mode in runs.items()
    }
    for mode, seconds in cost.items():
        targets = statistics.mean(run.n_targets for run in runs[mode])
        print(
            f"{mode}: {1e6 * seconds:.1f} CPU-microseconds per position, "
            f"{seconds / cost['stream']:.2f} x stream; {targets:,.0f} targets"
        )


if __name__ == "__main__":
    main()
