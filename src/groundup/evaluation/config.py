"""The settings of `evaluate` and `generate`. This file loads no torch."""

import math
from dataclasses import dataclass
from pathlib import Path

from groundup.base.config import check_ranges
from groundup.base.errors import UserError


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Settings of `evaluate`: measure the loss of a run, beside two baselines."""

    run: Path = Path("runs/pretrain")
    """Run folder, or one of its checkpoints."""
    data: Path | None = None
    """Data folder with train/ and validation/ token stores. None: the data of the run."""
    batch_size: int = 16
    """Sequences per batch; it changes memory and speed, not the result."""
    stride: int | None = None
    """Distance between two windows, in tokens; a shorter one gives each token more context.
    None: the context length."""
    device: str = "auto"
    """Device: auto, cpu or cuda."""

    def __post_init__(self) -> None:
        check_ranges(self, (("batch_size", 1, math.inf), ("stride", 1, math.inf)))


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """Settings of `generate`: let a trained model continue a text."""

    run: Path = Path("runs/story")
    """Run folder, or one of its checkpoints."""
    prompt: str = ""
    """Text to continue; if empty, the first words of the validation set."""
    max_new_tokens: int = 80
    """Maximum length of a sample, in tokens."""
    temperature: float = 0.8
    """Sampling temperature; 0 always takes the most likely token."""
    top_k: int | None = None
    """Sample from the k most likely tokens only. None disables it."""
    top_p: float | None = 0.95
    """Sample from the most likely tokens that together have this probability. None disables it."""
    seed: int = 0
    """Random seed of the first sample; each further sample adds 1."""
    samples: int = 3
    """Number of samples; a greedy one is generated before them."""
    device: str = "auto"
    """Device: auto, cpu or cuda."""

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UserError(
                f"The number of samples is {self.samples}. At least 1 is expected.",
                settings={"samples": 3},
            )
