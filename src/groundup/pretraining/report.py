"""What a run tells about itself: its metrics, what it was made from, and a page to read."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.base.errors import quoted
from groundup.base.files import sha256_file
from groundup.base.results import read_results
from groundup.base.run import RunFolder
from groundup.model.count import flops_per_token
from groundup.planning.memory import settings_sha256
from groundup.train.build import Setup
from groundup.train.loop import Step


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """What came of it."""

    run: Path
    steps: int
    n_parameters: int
    n_targets: int
    first_loss_nats: float
    last_loss_nats: float
    first_validation_loss_nats: float
    validation_loss_nats: float
    """of the best checkpoint, the one that `load` opens"""
    best_step: int
    elapsed_s: float
    tokens_per_s: float
    peak_memory_bytes: int
    """the most that this process held at a time"""
    resumed_from_step: int
    """0: not resumed"""


def log_metrics(run: RunFolder, step: Step) -> dict[str, Any]:
    """Append the step to metrics.jsonl; give the line."""
    return run.log_metrics(
        step=step.step,
        loss_nats=step.loss_nats,
        validation_loss_nats=step.validation_loss_nats,
        learning_rate=step.learning_rate,
        grad_norm=step.grad_norm,
        weight=step.weight,
        n_targets=step.n_targets,
        targets_per_s=round(step.targets_per_s, 1),
        waited_s=round(step.waited_s, 6),
        memory_bytes=step.memory_bytes,
        elapsed_s=round(step.elapsed_s, 3),
    )


def describe(setup: Setup, run: RunFolder) -> dict[str, object]:
    """Describe what the run is made from: its data, with checksums from raw text to tokens."""
    data = setup.config.data.resolve()
    corpus = {file.name: sha256_file(file) for file in sorted((data / "corpus").glob("*.jsonl"))}
    return {
        "verb": "pretrain",
        "data": str(data),
        "data_relative_to_run": _relative(data, run.path.resolve()),
        "seed": setup.config.seed,
        "corpus_sha256": corpus,
        "tokenizer_fingerprint": setup.data.tokenizer.fingerprint,
        "train_fingerprint": setup.data.train.fingerprint,
        "validation_fingerprint": setup.data.validation.fingerprint,
    }


def _relative(path: Path, start: Path) -> str | None:
    """Give the path of the data from the run folder, which holds when both are moved together."""
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:  # on another drive, on Windows
        return None


def run_readme(setup: Setup, result: PretrainResult) -> str:
    """The run's README.md."""
    config, model = setup.config, setup.config.model
    n_train = setup.data.train.n_tokens
    flops_per_s = flops_per_token(model) * result.tokens_per_s
    speed = f"{result.tokens_per_s:,.0f} tokens/s, {flops_per_s / 1e9:,.1f} GFLOP/s"
    before, after = result.first_validation_loss_nats, result.validation_loss_nats
    sessions = (
        f" (taken up again at step {result.resumed_from_step})" if result.resumed_from_step else ""
    )
    repeats = "`config.toml` repeats the run:"
    if config.budget is not None:
        repeats = "`config.toml` repeats its settings; the end of a budget is set by the clock:"
    return f"""# A language model, pretrained

A transformer of {result.n_parameters:,} parameters ({model.n_layers} layers, {model.d_model} wide,
{model.n_heads} heads, a context of {model.context_length} tokens out of {model.vocab_size:,}),
trained on {n_train:,} tokens of `{config.data}`.

| | |
|---|---|
| steps | {result.steps:,} of {config.batch_size} x {model.context_length} tokens{sessions} |
| passes over the text | {result.n_targets / n_train:.1f} |
| time | {result.elapsed_s:,.0f} s, {speed} |
| validation loss before | {before:.4f} nats a token |
| validation loss after | {after:.4f} nats a token, at step {result.best_step:,} |
| loss of the last batch | {result.last_loss_nats:.4f} nats a token |

{_held_against_plan(setup, result)}

{"![loss and learning rate](figures/loss.svg)" if config.curves else ""}

`checkpoints/best` names the checkpoint with the lowest validation loss: the one that is opened when
this folder is. {repeats}

    groundup pretrain --recipe {quoted(RunFolder(result.run).config_path)}

Next:

    groundup evaluate {quoted(result.run)}
    groundup generate {quoted(result.run)}
"""


def _held_against_plan(setup: Setup, result: PretrainResult) -> str:
    """What `groundup plan` said of these settings, beside what they took."""
    data, budget = setup.config.data, setup.config.budget
    if budget is not None:
        return f"`--budget {budget}` decided on its size and its end: no plan could be held to it."
    plan = read_results(data).get("plan", {})
    if plan.get("settings_sha256") != settings_sha256(setup.config):
        command = f"groundup plan {quoted(data)}"
        return f"No plan was made of these settings; `{command}` tells what a run costs."
    if result.resumed_from_step:
        return "There was a plan; a run that was taken up again cannot be held against it."
    planned_s, planned_bytes = plan["total_s"], plan["total_memory_bytes"]
    time_off = result.elapsed_s / planned_s - 1.0
    memory_off = result.peak_memory_bytes / planned_bytes - 1.0
    low, high = plan["last_loss_nats"]
    last, place = result.validation_loss_nats, "as foretold"
    if not low <= last <= high:
        place = "lower" if last < low else "higher"
    taken_mb = result.peak_memory_bytes / 1e6
    return f"""| | planned | taken | |
|---|---|---|---|
| time | {planned_s:,.0f} s | {result.elapsed_s:,.0f} s | {time_off:+.0%} |
| memory | {planned_bytes / 1e6:,.0f} MB | {taken_mb:,.0f} MB | {memory_off:+.0%} |
| loss on held-out text | {low:.2f} to {high:.2f} nats | {last:.2f} nats | {place} |"""
