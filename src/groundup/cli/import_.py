"""`groundup import FOLDER`: pretrained weights from a Hugging Face folder become a run folder."""

from dataclasses import dataclass
from pathlib import Path

from groundup.base.errors import quoted
from groundup.cli.console import next_command, note, warn
from groundup.weights.pretrained import ImportReport, import_pretrained


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Read pretrained weights: GPT-2, Llama or Qwen3."""

    source: Path = Path("gpt2")
    """a folder with config.json, model.safetensors and tokenizer.json"""
    out: Path = Path("runs/imported")
    """the run folder to make; a taken name gets -2"""


def run(config: ImportConfig) -> ImportReport:
    """Make the run folder and say what is in it."""
    report = import_pretrained(config.source, config.out)
    note(
        f"A {report.model_type} model of {report.n_parameters:,} parameters, context "
        f"{report.context_length} tokens, now stands in {report.run}."
    )
    if not report.has_tokenizer:
        warn("The folder has no tokenizer.json: without one the model speaks in ids only.")
    next_command(f"groundup generate {quoted(report.run)} --prompt 'Every effort moves you'")
    return report
