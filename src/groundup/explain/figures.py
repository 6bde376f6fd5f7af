"""Pictures for the report: curves as SVG, drawn by matplotlib without any global state."""

import io
from typing import Any

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure


def loss_curve(metrics: list[dict[str, Any]], first_expected_nats: float | None) -> str:
    """Draw training and validation loss over the steps; give the SVG element.

    The line a model starts from when it knows nothing, ln V, is drawn when it is given.
    """
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    train = [(row["step"], row["loss_nats"]) for row in metrics if "loss_nats" in row]
    held_out = [
        (row["step"], row["validation_loss_nats"])
        for row in metrics
        if "validation_loss_nats" in row
    ]
    if train:
        axes.plot(*zip(*train, strict=True), color="#7a8fa6", linewidth=1, label="training batch")
    if held_out:
        axes.plot(
            *zip(*held_out, strict=True),
            color="#c2410c",
            marker="o",
            markersize=3,
            label="held out",
        )
    if first_expected_nats is not None:
        axes.axhline(first_expected_nats, color="#999999", linestyle=":", linewidth=1, label="ln V")
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
