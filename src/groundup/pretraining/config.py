"""The settings of `doctor` and `compare`. This file loads no torch, so that `--help` is fast."""

from dataclasses import dataclass
from pathlib import Path

from groundup.base.fields import Config


@dataclass(frozen=True, kw_only=True)
class DoctorConfig(Config):
    """Which run to check."""

    run: Path | None = None
    """Run folder, finished or not, also of a fine-tuned model inside a run. Without it, the newest
    run in runs/."""
    data: Path | None = None
    """Data folder of a pretraining run. None: the data of the run."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig(Config):
    """Which runs to compare."""

    runs: tuple[str, ...] = ()
    """Run folders of the same command, finished or not."""
    out: Path = Path("compare.svg")
    """File to write the plot of their loss curves to."""
