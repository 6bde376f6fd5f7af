"""The settings of `doctor` and `compare`. This file loads no torch, so that `--help` is fast."""

from dataclasses import dataclass
from pathlib import Path

from groundup.base.fields import Config


@dataclass(frozen=True, kw_only=True)
class DoctorConfig(Config):
    """Which run to check."""

    run: Path = Path("runs/pretrain")
    """Run folder of pretrain, finished or not."""
    data: Path | None = None
    """Data folder. None: the data of the run."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig(Config):
    """Which runs to compare."""

    runs: tuple[str, ...] = ()
    """Run folders of pretrain, finished or not."""
    out: Path = Path("compare.svg")
    """File to write the plot of their loss curves to."""
