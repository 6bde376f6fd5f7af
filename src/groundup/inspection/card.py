"""A picture of a run for a post: the result, the loss curve, the best sample and figures."""

import io
import textwrap
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from groundup.base.errors import UsageError, UserError
from groundup.base.files import write_bytes
from groundup.base.free_name import free_file_name
from groundup.inspection.facts import best_sample, curve, figures, sentence
from groundup.inspection.run_results import RunResults

WIDTH, HEIGHT = 1200, 630
"""Pixels: the size that social networks show."""
_DPI = 100
_INK, _SOFT, _PAGE, _CARD, _LINE = "#f3f5f7", "#a6b1bf", "#12161c", "#1b212a", "#343e4b"
_ACCENT, _BLUE = "#fb923c", "#6eaff5"
_MARK = b"groundup report"
_HEAD_BYTES = 512
_SAMPLE_LINES, _SAMPLE_COLUMNS = 9, 46


def check_card(path: Path) -> None:
    """Check that a picture may be written here.

    Raises:
        UserError: The name does not end with .png, or there is a file that groundup did not write.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(
            f"The picture is a PNG file, and the name {path.name!r} does not end with .png.",
            settings={"card": str(path.with_suffix(".png"))},
        )
    if path.is_dir():
        raise UsageError(
            "This is a folder. The name of a PNG file is expected.",
            where=path,
            settings={"card": str(path / "card.png")},
        )
    if path.exists() and not _is_own(path):
        raise UserError(
            "There is a file at this place that groundup did not write. Choose another name.",
            where=path,
            settings={"card": str(free_file_name(path))},
        )


def write_card(results: RunResults, path: Path) -> None:
    """Draw the picture of a run.

    Raises:
        UserError: The place cannot be written to.
    """
    # Text of the user is no mathematical formula, and glyphs that a font lacks are boxes.
    with matplotlib.rc_context({"text.parse_math": False, "font.family": "DejaVu Sans"}):
        canvas = Canvas(figsize=(WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI, facecolor=_PAGE)
        FigureCanvasAgg(canvas)
        _draw(canvas, results)
        stream = io.BytesIO()
        canvas.savefig(stream, format="png", metadata={"Software": _MARK.decode()})
    write_bytes(path, stream.getvalue())


def _draw(canvas: Canvas, results: RunResults) -> None:
    left, right = 0.05, 0.95
    headline = textwrap.wrap(sentence(results), 54)[:2]
    for row, line in enumerate(headline):
        _text(canvas, left, 0.925 - 0.075 * row, line, size=25, weight="bold")
    sample = best_sample(results)
    has_curve = bool(results.metrics)
    if has_curve:
        width = 0.40 if sample is not None else right - left - 0.03
        axes = canvas.add_axes((left + 0.03, 0.335, width, 0.40))
        _draw_curve(axes, results)
    if sample is not None:
        start = 0.53 if has_curve else left
        columns = _SAMPLE_COLUMNS if has_curve else 2 * _SAMPLE_COLUMNS
        _panel(canvas, start, 0.285, right - start, 0.475)
        said = _lines(sample.prompt + sample.text, columns)
        shown = "\n".join(said)
        canvas.text(
            start + 0.02, 0.735, shown, va="top", family="DejaVu Sans Mono", size=13.2,
            color=_INK, linespacing=1.42,
        )  # fmt: skip
    found = figures(results)
    for place, figure in enumerate(found):
        x = left + place * (right - left) / max(4, len(found))
        _text(canvas, x, 0.185, figure.value, size=26, weight="bold", color=_ACCENT)
        _text(canvas, x, 0.128, figure.name, size=12.5)
        _text(canvas, x, 0.088, figure.note, size=10.5, color=_SOFT)
    _text(canvas, left, 0.03, "groundup", size=12.5, weight="bold", color=_SOFT)
    _text(
        canvas, right, 0.03, "a language model from raw text, on one's own machine",
        size=11, color=_SOFT, ha="right",
    )  # fmt: skip


def _text(canvas: Canvas, x: float, y: float, text: str, **style: object) -> None:
    canvas.text(x, y, text, **{"color": _INK, "va": "baseline", **style})


def _panel(canvas: Canvas, x: float, y: float, width: float, height: float) -> None:
    axes = canvas.add_axes((x, y, width, height), facecolor=_CARD)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.spines["left"].set(visible=True, color=_ACCENT, linewidth=4)


def _draw_curve(axes: Axes, results: RunResults) -> None:
    points = curve(results)
    axes.set_facecolor(_PAGE)
    axes.plot(*zip(*points["train"], strict=True), color=_BLUE, lw=1.2, alpha=0.55)
    axes.annotate(
        "training", points["train"][len(points["train"]) // 6], xytext=(8, 10),
        textcoords="offset points", color=_BLUE, size=12,
    )  # fmt: skip
    if points["validation"]:
        axes.plot(*zip(*points["validation"], strict=True), color=_ACCENT, lw=2.6)
        step, loss = min(points["validation"], key=lambda point: point[1])
        axes.plot([step], [loss], "o", color=_ACCENT, ms=8)
        axes.annotate(
            f"validation {loss:.2f}", (step, loss), xytext=(-4, 14), textcoords="offset points",
            color=_ACCENT, size=13, weight="bold", ha="right",
        )  # fmt: skip
    axes.set_ylabel("loss, nats/token", color=_SOFT, size=12)
    axes.set_xlabel("step", color=_SOFT, size=12)
    axes.tick_params(colors=_SOFT, labelsize=11, length=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(axis="y", color=_LINE, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.margins(x=0.01)


def _lines(text: str, columns: int) -> list[str]:
    """Break a text into the lines of the picture, and cut what is too long for it."""
    printable = "".join(c if c.isprintable() or c == "\n" else " " for c in text.expandtabs(4))
    lines: list[str] = []
    for line in printable.strip("\n").split("\n"):
        lines += textwrap.wrap(line, columns, drop_whitespace=False) or [""]
    if len(lines) <= _SAMPLE_LINES:
        return lines
    return [*lines[: _SAMPLE_LINES - 1], "…"]


def _is_own(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return _MARK in file.read(_HEAD_BYTES)
    except OSError:
        return False
