"""Import pretrained weights: a Hugging Face folder becomes a run folder."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from groundup.base.calling import takes_settings
from groundup.base.checkpoints import step_name
from groundup.base.errors import quoted
from groundup.base.files import write_text
from groundup.base.run import RunFolder
from groundup.weights.checkpoint_format import save_model
from groundup.weights.config import ImportConfig
from groundup.weights.huggingface import import_huggingface


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """What was read, and the run folder that was created."""

    run: Path
    model_type: str
    n_parameters: int
    context_length: int
    has_tokenizer: bool


@takes_settings(ImportConfig, "source")
def import_pretrained(config: ImportConfig) -> ImportResult:
    """Read pretrained weights and write them as checkpoint step-000000 of a new run folder.

    Raises:
        UserError: The folder holds no supported model, or `out` cannot be written to.
    """
    source = config.source
    model = import_huggingface(source)
    run = RunFolder.create(config.out)
    save_model(model, run.checkpoints_path / step_name(0))
    write_text(run.checkpoints_path / "latest", f"{step_name(0)}\n")
    tokenizer = source / "tokenizer.json"
    if tokenizer.is_file():
        run.tokenizer.mkdir()
        shutil.copyfile(tokenizer, run.tokenizer / "tokenizer.json")
    n_parameters = sum(p.numel() for p in model.parameters())
    kind = "gpt2" if model.config.norm == "layer" else "qwen3" if model.config.qk_norm else "llama"
    run.write_manifest({"job": "import", "source": str(source), "n_parameters": n_parameters})
    run.write_readme(
        f"# Imported model of type {kind}\n\n{n_parameters:,} parameters from `{source.name}`, "
        f"context {model.config.context_length} tokens.\n\n"
        f"Next: `groundup generate {quoted(run.path)}`\n"
    )
    return ImportResult(
        run=run.path,
        model_type=kind,
        n_parameters=n_parameters,
        context_length=model.config.context_length,
        has_tokenizer=tokenizer.is_file(),
    )
