"""A picture of a run for a post: the result, the loss curve, the best sample and figures."""

import io
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from groundup.base.errors import UserError, quoted
from groundup.base.files import write_bytes
from groundup.inspection.facts import BestSample, best_sample, curve, figures, sentence
from groundup.inspection.run_results import RunResults

WIDTH, HEIGHT = 1200, 630
"""Pixels: the size that social networks show."""
_DPI = 100
_INK, _SOFT, _PAGE, _CARD, _LINE = "#f3f5f7", "#a6b1bf", "#12161c", "#1b212a", "#343e4b"
_ACCENT, _BLUE = "#fb923c", "#6eaff5"
_MARK = b"groundup report"
_HEAD_BYTES = 512
_LEFT, _RIGHT = 0.05, 0.95
_LINE_PX = 27
_MONO_PT = {11: 13.16, 10: 11.96, 9: 10.76}
"""Sizes of DejaVu Sans Mono by the width of a character in pixels, which is rounded when drawn."""
_FEW = 3
"""Points of a curve beside which a label has no room."""
_BOLD_EM = 0.62
"""Average width of a character of a bold line."""


def is_own_card(path: Path) -> bool:
    """Whether this is a picture that `write_card` drew."""
    try:
        with open(path, "rb") as file:
            return _MARK in file.read(_HEAD_BYTES)
    except OSError:
        return False


def write_card(results: RunResults, path: Path) -> None:
    """Draw the picture of a run.

    Raises:
        UserError: The run has neither a loss curve nor samples, or the place cannot be written to.
    """
    if not results.metrics and best_sample(results) is None:
        raise UserError(
            "There is nothing to draw: the run has neither a loss curve nor samples.",
            where=results.run.path,
            command=f"groundup generate {quoted(results.run.path)}",
        )
    # Text of the user is no mathematical formula, and may have characters that the font lacks.
    style: Any = {"text.parse_math": False, "font.family": "DejaVu Sans"}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        canvas = Canvas(figsize=(WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI, facecolor=_PAGE)
        FigureCanvasAgg(canvas)
        _draw(canvas, results)
        stream = io.BytesIO()
        canvas.savefig(stream, format="png", metadata={"Software": _MARK.decode()})
    write_bytes(path, stream.getvalue())


def _draw(canvas: Canvas, results: RunResults) -> None:
    _draw_sentence(canvas, sentence(results))
    sample = best_sample(results)
    if results.metrics:
        width = 0.375 if sample is not None else _RIGHT - _LEFT - 0.03
        _draw_curve(canvas.add_axes((_LEFT + 0.03, 0.345, width, 0.41)), results)
    if sample is not None:
        _draw_sample(canvas, sample, 0.485 if results.metrics else _LEFT)
    for place, figure in enumerate(figures(results)):
        x = _LEFT + place * (_RIGHT - _LEFT) / 4
        _text(canvas, x, 0.185, figure.value, size=26, weight="bold", color=_ACCENT)
        _text(canvas, x, 0.132, figure.name, size=12.5)
        _text(canvas, x, 0.092, figure.note, size=10.5, color=_SOFT)
    _text(canvas, _LEFT, 0.033, "groundup", size=12, weight="bold", color=_SOFT)
    said = "from raw text to a language model, on one machine"
    _text(canvas, _RIGHT, 0.033, said, size=11, color=_SOFT, ha="right")


def _draw_sentence(canvas: Canvas, text: str) -> None:
    """Draw the result in the largest size in which it takes two lines."""
    lines: list[str] = []
    size = 0
    for size in (25, 23, 21, 19):
        columns = int((_RIGHT - _LEFT) * WIDTH / (_BOLD_EM * size * _DPI / 72))
        lines = textwrap.wrap(text, columns)
        if len(lines) <= 2:
            break
    for row, line in enumerate(lines[:2]):
        _text(canvas, _LEFT, 0.9 - 0.075 * row, line, size=size, weight="bold")


def _draw_sample(canvas: Canvas, sample: BestSample, left: float) -> None:
    """Draw the sample in a panel, the prompt in another color."""
    bottom, height, margin = 0.285, 0.475, 0.017
    panel = canvas.add_axes((left, bottom, _RIGHT - left, height), facecolor=_CARD)
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)
    panel.spines["left"].set(visible=True, color=_ACCENT, linewidth=4)
    n_lines = int((height - 2 * margin) * HEIGHT / _LINE_PX)
    prompt = sample.prompt.lstrip("\n")
    n_prompt = len(_printable(prompt))
    text = _printable(prompt + sample.text)
    broken = {px: _lines(text, int((_RIGHT - left - 2 * margin) * WIDTH / px)) for px in _MONO_PT}
    # The largest size in which no line is broken, or else in which all lines are seen.
    whole = [px for px, lines in broken.items() if len(lines) <= len(text.splitlines())]
    fitting = [px for px, lines in broken.items() if len(lines) <= n_lines]
    px = [*whole, *fitting, min(_MONO_PT)][0]
    lines = broken[px]
    if len(lines) > n_lines:
        lines = [*lines[: n_lines - 1], "…"]
    for row, line in enumerate(lines):
        y = bottom + height - (1.9 * margin * WIDTH + row * _LINE_PX) / HEIGHT
        own = line[:n_prompt]
        for part, column, color in ((own, 0, _SOFT), (line[len(own) :], len(own), _INK)):
            x = left + margin + column * px / WIDTH
            _text(canvas, x, y, part, size=_MONO_PT[px], family="DejaVu Sans Mono", color=color)
        n_prompt = max(0, n_prompt - len(line))


def _text(canvas: Canvas, x: float, y: float, text: str, **style: Any) -> None:
    canvas.text(x, y, text.rstrip("\n"), **{"color": _INK, "va": "baseline", **style})


def _draw_curve(axes: Axes, results: RunResults) -> None:
    points = curve(results)
    axes.set_facecolor(_PAGE)
    trained, validated = points["train"], points["validation"]
    axes.plot(*zip(*trained, strict=True), color=_BLUE, lw=1.2, alpha=0.6)
    _label(axes, "training", trained[len(trained) // 40], color=_BLUE)
    if validated:
        axes.plot(*zip(*validated, strict=True), color=_ACCENT, lw=2.6)
        best = min(validated, key=lambda point: point[1])
        axes.plot(*best, "o", color=_ACCENT, ms=8)
        if len(validated) > _FEW:
            _label(axes, "validation", validated[len(validated) // 4], color=_ACCENT)
        _label(axes, f"{best[1]:.2f}", best, color=_ACCENT, weight="bold", ha="center")
    axes.set_ylabel("loss, nats/token", color=_SOFT, size=12)
    axes.set_xlabel("step", color=_SOFT, size=12)
    axes.tick_params(colors=_SOFT, labelsize=11, length=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(axis="y", color=_LINE, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.margins(x=0.01)


def _label(axes: Axes, text: str, point: Sequence[float | int], **style: Any) -> None:
    """Write a text above and to the right of a point, or above it."""
    offset = (0, 11) if "ha" in style else (9, 8)
    axes.annotate(
        text, (point[0], point[1]), xytext=offset, textcoords="offset points", size=12.5, **style
    )


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text.expandtabs(4))


def _lines(text: str, n_columns: int) -> list[str]:
    """Break a text into lines, each with its line feed."""
    found: list[str] = []
    for line in text.splitlines():
        # Nothing is dropped, so that the prompt ends after as many characters.
        parts = textwrap.wrap(line, n_columns, drop_whitespace=False) or [""]
        found += [*parts[:-1], parts[-1] + "\n"]
    return found
