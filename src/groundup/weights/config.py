"""The settings of `export` and `import`. This file loads no torch."""

from dataclasses import dataclass
from pathlib import Path

from groundup.base.fields import Config


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Config):
    """Settings of `export`: write a trained model as a Hugging Face folder."""

    run: Path | None = None
    """Run folder, or one of its checkpoints. Without it, the newest run in runs/."""
    out: Path | None = None
    """Folder to write. None: RUN/huggingface."""


@dataclass(frozen=True, kw_only=True)
class ImportConfig(Config):
    """Settings of `import_pretrained`: read GPT-2, Llama or Qwen3 weights."""

    source: Path = Path("gpt2")
    """Folder with config.json, model.safetensors and tokenizer.json."""
    out: Path = Path("runs/imported")
    """Run folder to create. If the name is taken, -2 is added."""
