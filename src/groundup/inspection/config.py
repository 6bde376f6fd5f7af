"""The settings of `explain` and `report`. This file loads no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

from groundup.base.fields import Config
from groundup.base.kinds import FreeText, IfBare, Whole


@dataclass(frozen=True, kw_only=True)
class ExplainConfig(Config):
    """Settings of `explain`: show the attention on one sentence, and write the report."""

    run: Path | None = None
    """Run folder, or one of its checkpoints. Without it, the newest run in runs/."""
    text: FreeText = None
    """Sentence whose attention is shown, at most for its first 24 tokens. None: a line of the
    validation set."""
    layer: Annotated[int, Ge(-1)] = -1
    """Layer whose attention is shown, counted from 0. -1 is the last."""
    head: Whole = 0
    """Attention head of that layer, counted from 0."""


@dataclass(frozen=True, kw_only=True)
class ReportConfig(Config):
    """Settings of `report`: write the report of a run, and a picture of it."""

    run: Path | None = None
    """Run folder, or that of an assistant. Without it, the newest run in runs/."""
    out: Path | None = None
    """File to write the page to. None: report.html in the run folder."""
    text: FreeText = None
    """Sentence whose attention is shown, at most for its first 24 tokens. None: a line of the
    validation set."""
    embed_model: bool = True
    """Put the model into the page, where it can be tried. It takes 1.3 bytes per parameter."""
    card: Annotated[Path | None, IfBare("card.png")] = None
    """File to draw a picture of 1200 x 630 pixels to, for a post; --card alone draws card.png.
    None: no picture."""
