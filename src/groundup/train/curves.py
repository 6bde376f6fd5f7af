"""Plot loss and learning rate over the steps, of one run or of several runs."""

import io
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]
"""The lines of a metrics.jsonl."""

_MOST_POINTS = 400
# Okabe and Ito's palette, which color-blind readers can tell apart.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def draw_curves(runs: Mapping[str, Rows], uniform_nats: float | None = None) -> str:
    """Plot training loss (thin), validation loss (with a dot per validation) and learning rate.

    Args:
        runs: Names and metrics; each run has its own color.
        uniform_nats: ln V, the loss of a uniform prediction, drawn as a horizontal line.

    Returns:
        The SVG element, with a transparent background.
    """
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    FigureCanvasSVG(figure)
    loss, rate = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for index, (name, rows) in enumerate(runs.items()):
        color = _COLORS[index % len(_COLORS)]
        label = f"{name}: " if len(runs) > 1 else ""
        trained = _thinned(rows, "loss_nats")
        validated = [
            (row["step"], row["validation_loss_nats"]) for row in rows if _was_validated(row)
        ]
        rates = _thinned(rows, "learning_rate")
        if trained:
            alone = {"label": "training batches"} if len(runs) == 1 else {}
            loss.plot(*zip(*trained, strict=True), color=color, lw=1, alpha=0.45, **alone)
        if validated:
            marker = "o" if len(validated) < 40 else None
            loss.plot(
                *zip(*validated, strict=True),
                color=color,
                lw=1.6,
                marker=marker,
                ms=3.5,
                label=f"{label}validation set",
            )
        if rates:
            rate.plot(*zip(*rates, strict=True), color=color, lw=1.2)
    if uniform_nats is not None:
        loss.axhline(uniform_nats, color="#999999", ls=":", lw=1, label="uniform baseline ln V")
    loss.set_ylabel("loss, nats/token")
    rate.set_ylabel("learning rate")
    rate.set_xlabel("step")
    rate.set_ylim(bottom=0)
    for axes in (loss, rate):
        axes.spines[["top", "right"]].set_visible(False)
        axes.patch.set_alpha(0)
    loss.legend(frameon=False)
    figure.patch.set_alpha(0)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def _was_validated(row: Mapping[str, Any]) -> bool:
    return row.get("validation_loss_nats") is not None


def _thinned(rows: Rows, name: str) -> list[tuple[float, float]]:
    """Return (step, value) points, averaged over neighbors where there are too many to see."""
    points = [(row["step"], row[name]) for row in rows if name in row]
    size = -(-len(points) // _MOST_POINTS) or 1
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(fmean(step for step, _ in p), fmean(value for _, value in p)) for p in parts]
