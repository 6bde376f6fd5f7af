"""The confusion matrix as SVG that takes its text color from the page around it."""

import io
import warnings
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

_INK = "#010203"
"""Replaced by the text color of the page."""
_BLUE = "#2563a5"
_MOST_CLASSES = 30


def draw_confusion(names: Sequence[str], confusion: Sequence[Sequence[int]]) -> str:
    """Draw a confusion matrix: rows are true classes, columns predicted ones.

    The shade of a cell is its share of the true class.

    Returns:
        The SVG element; empty if there are too many classes for a picture.
    """
    K = len(names)
    if K > _MOST_CLASSES:
        return ""
    counts = np.array(confusion, dtype=np.float64)
    shares = counts / np.maximum(1.0, counts.sum(axis=1, keepdims=True))
    size = max(2.4, 0.7 * K)
    figure = Figure(figsize=(size + 1.6, size + 0.9), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    for row in range(K):
        for column in range(K):
            share = shares[row, column]
            # White is readable on full blue, the text color of the page on a tint.
            alpha = 1.0 if share >= 0.5 else 0.5 * share
            axes.add_patch(
                Rectangle((column - 0.5, row - 0.5), 1, 1, color=_BLUE, alpha=alpha, lw=0)
            )
            color = "white" if share >= 0.5 else _INK
            count = f"{int(counts[row, column]):,}"
            axes.text(column, row, count, ha="center", va="center", color=color)
    axes.set(xlim=(-0.5, K - 0.5), ylim=(K - 0.5, -0.5), aspect="equal")
    labels = [name if len(name) <= 16 else name[:15] + "…" for name in names]
    axes.set_xticks(range(K), labels, rotation=90 if K > 4 else 0)
    axes.set_yticks(range(K), labels)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.tick_params(colors=_INK, length=0)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)
    for text in (axes.xaxis.label, axes.yaxis.label):
        text.set_color(_INK)
    for line in axes.spines.values():
        line.set_color(_INK)
    for patch in (figure.patch, axes.patch):
        patch.set_alpha(0)
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class name may have characters that the font lacks
        figure.savefig(stream, format="svg", metadata={"Date": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    return svg.replace("<svg ", '<svg role="img" aria-label="Confusion matrix" ', 1)
