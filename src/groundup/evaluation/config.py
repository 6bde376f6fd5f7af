"""The settings of `evaluate` and `generate`. This file loads no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Gt, Le

from groundup.base.fields import Config
from groundup.base.kinds import Count, Device, NotNegative, Whole


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Config):
    """Settings of `evaluate`: measure the loss of a run, beside two baselines."""

    run: Path | None = None
    """Run folder, or one of its checkpoints. Without it, the newest run in runs/."""
    data: Path | None = None
    """Data folder with train/ and validation/ token stores. None: the data of the run."""
    batch_size: Count = 16
    """Number of sequences per batch. The result does not depend on it."""
    stride: Count | None = None
    """Tokens between the starts of two windows. A smaller number gives each token more context.
    None: the context length."""
    device: Device = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps (untested). auto takes a GPU if there is one."""


@dataclass(frozen=True, kw_only=True)
class GenerateConfig(Config):
    """Settings of `generate`: let a trained model continue a text."""

    run: Path | None = None
    """Run folder, or one of its checkpoints. Without it, the newest run in runs/."""
    prompt: str = ""
    """Text to continue. Empty: the first words of the validation set."""
    max_new_tokens: Count = 80
    """Maximum length of a sample, in tokens."""
    temperature: NotNegative = 0.8
    """Sampling temperature. 0: always the most likely token."""
    top_k: Count | None = None
    """Sample from this many most likely tokens only. None: from all."""
    top_p: Annotated[float, Gt(0), Le(1)] | None = 0.95
    """Sample from the most likely tokens that together have this probability. None: from all."""
    seed: Whole = 0
    """Random seed of the first sample. Each further sample adds 1."""
    samples: Count = 3
    """Number of samples. A greedy one is generated before them."""
    device: Device = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps (untested). auto takes a GPU if there is one."""
