"""The settings of `import`, `export` and `match`. This file loads no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from groundup.base.fields import Config
from groundup.base.kinds import Positive


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Config):
    """Settings of `export`: write a trained model in the format of another project."""

    run: Path | None = None
    """Run folder, or one of its checkpoints. Without it, the newest run in runs/."""
    to: Literal["hf", "gguf", "nanogpt", "peft"] = "hf"
    """Format: a Hugging Face folder, a GGUF file for llama.cpp, a nanoGPT checkpoint, or the LoRA
    adapter of a fine-tuned run for peft."""
    dtype: Literal["float32", "float16", "q8_0"] = "float32"
    """Type of the matrices in a GGUF file; float16 and q8_0 are smaller and less exact."""
    out: Path | None = None
    """Folder or file to write. None: a place in RUN, by the format."""


@dataclass(frozen=True, kw_only=True)
class ImportConfig(Config):
    """Settings of `import_pretrained`: read weights of another project."""

    source: Path = Path("smollm2")
    """Hugging Face folder, GGUF file, nanoGPT checkpoint, LoRA adapter of peft (with `base`), hub
    name OWNER/NAME, or smollm2."""
    out: Path | None = None
    """Run folder to create. None: runs/NAME, by the source. If the name is taken, -2 is added."""
    tokenizer: bool = True
    """Whether to import the tokenizer. False imports the weights alone."""
    base: Path | None = None
    """Run of the model that a LoRA adapter was trained on. None: the source is a whole model."""
    revision: str | None = None
    """Branch, tag or commit of a model on the hub. None: the newest commit."""


@dataclass(frozen=True, kw_only=True)
class MatchConfig(Config):
    """Settings of `match`: compare a model with its source or its export."""

    run: Path | None = None
    """Run folder, or one of its checkpoints. Without it, the newest run in runs/."""
    against: Path | None = None
    """Hugging Face folder, GGUF file, nanoGPT checkpoint, or another run.
    None: the source that the run was imported from."""
    tolerance: Positive = 1e-4
    """Largest difference of two logits that counts as equal.
    Between steps of generation and one pass over the text, it is relative to the largest logit."""
