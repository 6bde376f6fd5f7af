"""The records of a run: its result, its metrics, its manifest and its README."""

import os
from dataclasses import dataclass
from pathlib import Path

from groundup.base.errors import quoted
from groundup.base.files import sha256_file
from groundup.base.results import read_results
from groundup.base.run import RunFolder
from groundup.model.count import flops_per_token
from groundup.planning.memory import settings_sha256
from groundup.planning.text_use import TextUse
from groundup.train.build import Setup
from groundup.train.data import Data
from groundup.train.trainer import WORSE


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """The result of a run."""

    run: Path
    steps: int
    n_parameters: int
    n_targets: int
    first_loss_nats: float
    last_loss_nats: float
    first_validation_loss_nats: float
    validation_loss_nats: float
    """Of the best checkpoint, which `load` opens."""
    best_step: int
    elapsed_s: float
    tokens_per_s: float
    peak_memory_bytes: int
    """Peak memory of this process."""
    resumed_from_step: int
    """0: not resumed."""
    n_passes: float
    """Number of passes over the windows of the text; of a mixture, over those of the text that is
    read most often."""
    last_validation_loss_nats: float | None = None
    """After the last step."""
    early_end_step: int | None = None
    """Where the validation loss had risen, so that the run ended before its budget."""

    @property
    def overfits(self) -> bool:
        """Whether the validation loss has clearly risen since the best step."""
        last = self.last_validation_loss_nats
        return last is not None and last > WORSE * self.validation_loss_nats

    @property
    def early_end(self) -> str:
        """Why the run ended before its budget, in a sentence; empty if it did not."""
        if self.early_end_step is None:
            return ""
        return (
            f"The validation loss had risen at step {self.early_end_step:,}: the text supports "
            f"{self.n_passes:.1f} passes of this model, so the run ended before its budget."
        )


def describe(setup: Setup, run: RunFolder) -> dict[str, object]:
    """Describe the inputs of the run: its data, with checksums from raw text to tokens.

    Of a mixture, the first data folder is described as that of any run, and "mix" has all of them.
    """
    texts = zip(setup.config.texts, setup.data.texts, strict=True)
    described = [_describe(run, folder, text) for (folder, _), text in texts]
    mix = {} if len(described) == 1 else {"mix": described}
    return {"verb": "pretrain", "seed": setup.config.seed, **described[0], **mix}


def _describe(run: RunFolder, folder: Path, text: Data) -> dict[str, object]:
    data = folder.resolve()
    corpus = {file.name: sha256_file(file) for file in sorted((data / "corpus").glob("*.jsonl"))}
    return {
        "data": str(data),
        "data_relative_to_run": _relative(data, run.path.resolve()),
        "corpus_sha256": corpus,
        "tokenizer_fingerprint": text.tokenizer.fingerprint,
        "train_fingerprint": text.train.fingerprint,
        "validation_fingerprint": text.validation.fingerprint,
        **({"weight": text.weight} if text.weight != 1.0 else {}),
    }


def _relative(path: Path, start: Path) -> str | None:
    """Give the path of the data from the run folder, which holds when both are moved together."""
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:  # on another drive, on Windows
        return None


def run_readme(setup: Setup, result: PretrainResult) -> str:
    """Write the text of the run's README.md."""
    config, model = setup.config, setup.config.model
    flops_per_s = flops_per_token(model) * result.tokens_per_s
    speed = f"{result.tokens_per_s:,.0f} tokens/s, {flops_per_s / 1e9:,.1f} GFLOP/s"
    before, after = result.first_validation_loss_nats, result.validation_loss_nats
    sessions = f" (resumed at step {result.resumed_from_step})" if result.resumed_from_step else ""
    layers = "1 layer" if model.n_layers == 1 else f"{model.n_layers} layers"
    sizes = (
        f"{layers}, width {model.d_model}, {model.n_heads} heads, context length "
        f"{model.context_length}, vocabulary size {model.vocab_size:,}"
    )
    repeats = "This command repeats the run:"
    segment = config.hardware.segment
    parts = "" if segment is None else f", in segments of {segment:,}"
    figure = "\n![loss and learning rate](figures/loss.svg)\n" if config.curves else ""
    if config.budget is not None:
        repeats = "This command repeats its settings; the budget decides the number of steps:"
    return f"""# A pretrained language model

A transformer with {result.n_parameters:,} parameters: {sizes}.
{_texts(setup)}

| | |
|---|---|
| steps | {result.steps:,} of {config.batch_size} x {model.context_length} tokens{parts}{sessions} |
| epochs | {_epochs(setup, result)} |
| time | {result.elapsed_s:,.0f} s, {speed} |
| validation loss before training | {before:.4f} nats/token |
| best validation loss | {after:.4f} nats/token, at step {result.best_step:,} |
| training loss of the last batch | {result.last_loss_nats:.4f} nats/token |

{_compare_with_plan(setup, result)}
{figure}
`checkpoints/best` names the checkpoint with the lowest validation loss, which all commands open.
{repeats}

    groundup pretrain --config {quoted(RunFolder(result.run).config_path)}

Next:

    groundup evaluate {quoted(result.run)}
    groundup generate {quoted(result.run)}
"""


_DOCUMENTS = {
    "isolated": "A document mask and positions that restart separate the documents of a window.",
    "packed": "A window holds as many whole documents as fit, separated by a document mask.",
    "padded": "A window holds one document, and padding.",
}


def _texts(setup: Setup) -> str:
    """Name the text, or the texts of a mixture, and how windows hold documents."""
    config, data = setup.config, setup.data
    named = [
        f"{text.train.n_tokens:,} tokens of `{folder}`"
        + (f" ({text.weight:.0%} of the windows)" if data.others else "")
        for (folder, _), text in zip(config.texts, data.texts, strict=True)
    ]
    result = f"It was trained on {' and '.join(named)}."
    if config.documents == "stream":
        return result
    cut = TextUse(config, data, setup.loader.windows).cut
    return f"{result} {_DOCUMENTS[config.documents]} {cut}".rstrip()


def _epochs(setup: Setup, result: PretrainResult) -> str:
    """Say how often each text was read."""
    if not setup.data.others:
        return f"{result.n_passes:.1f}"
    texts = TextUse(setup.config, setup.data, setup.loader.windows)
    passes = texts.passes(result.steps * setup.config.batch_size)
    return ", ".join(f"{n:.1f} of `{folder}`" for folder, n in passes.items())


def _compare_with_plan(setup: Setup, result: PretrainResult) -> str:
    """Compare what `groundup plan` predicted for these settings with what the run took."""
    data, budget = setup.config.first_data, setup.config.budget
    if budget is not None:
        return (
            f"`--budget {budget}` chose the size and the number of steps, so there is no plan to "
            f"compare with. {result.early_end}"
        ).rstrip()
    plan = read_results(data).get("plan", {})
    if plan.get("settings_sha256") != settings_sha256(setup.config):
        command = f"groundup plan --config {quoted(RunFolder(result.run).config_path)}"
        return f"These settings were not planned. `{command}` predicts their cost."
    if result.resumed_from_step:
        return "These settings were planned, but a resumed run cannot be compared with its plan."
    planned_s, planned_bytes = plan["total_s"], plan["total_memory_bytes"]
    time_off = result.elapsed_s / planned_s - 1.0
    memory_off = result.peak_memory_bytes / planned_bytes - 1.0
    low, high = plan["last_loss_nats"]
    last, place = result.validation_loss_nats, "as predicted"
    if not low <= last <= high:
        place = "lower" if last < low else "higher"
    taken_mb = result.peak_memory_bytes / 1e6
    return f"""| | predicted | measured | |
|---|---|---|---|
| time | {planned_s:,.0f} s | {result.elapsed_s:,.0f} s | {time_off:+.0%} |
| memory | {planned_bytes / 1e6:,.0f} MB | {taken_mb:,.0f} MB | {memory_off:+.0%} |
| validation loss | {low:.2f} to {high:.2f} nats | {last:.2f} nats | {place} |"""
