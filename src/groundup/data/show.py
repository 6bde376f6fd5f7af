"""Windows and batches in a notebook: the window sliding, inputs over targets."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from groundup.base.errors import UserError
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.show import visible

if TYPE_CHECKING:
    from groundup.data.windows import Windows

_ROWS = 4
_COLUMNS = 12
_CELL = "border:1px solid #8886;padding:.15em .5em;text-align:center;white-space:pre"
_INSIDE = _CELL + ";background:rgba(59,130,246,.25)"
_LAST = _CELL + ";background:rgba(194,65,12,.3)"


def windows_html(windows: "Windows") -> str:
    """Draw the first windows below the text they slide over: inputs blue, the last target red."""
    title = (
        f"{len(windows):,} windows of {windows.width:,} tokens over {windows.n_tokens:,}, "
        f"stride {windows.stride:,}, coverage {windows.coverage}, documents {windows.documents}"
    )
    if windows.rows is not None:
        inputs, targets = windows[0]
        return f"<p>{title}</p>" + pair_html(inputs.tolist(), targets.tolist(), windows)
    n_shown = min(_ROWS, len(windows))
    last = windows.start(n_shown - 1) + windows.width
    n_columns = min(last + 1, 2 * _COLUMNS)
    ids = windows.tokens.read(0, n_columns).tolist()
    rows = [_row("text", _words(ids, windows), [_CELL] * n_columns)]
    for i in range(n_shown):
        start = windows.start(i)
        styles = [
            _INSIDE if start <= p < start + windows.width
            else _LAST if p == start + windows.width else _CELL
            for p in range(n_columns)
        ]  # fmt: skip
        rows.append(_row(f"window {i}", [str(index) for index in ids], styles))
    return f"<p>{title}</p>{_table(rows)}"


def pair_html(inputs: Sequence[int], targets: Sequence[int], windows: "Windows | None") -> str:
    """Set one window's targets below its inputs."""
    n = min(len(inputs), _COLUMNS)
    rows = [
        _row(name, _words(ids[:n], windows), [style] * n)
        for name, ids, style in (("input", inputs, _INSIDE), ("target", targets, _LAST))
    ]
    return _table(rows)


def batch_html(inputs: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> str:
    """Set each row's targets below its inputs, ids only."""
    parts = [pair_html(x, y, None) for x, y in zip(inputs[:_ROWS], targets[:_ROWS], strict=True)]
    width = len(inputs[0]) if len(inputs) else 0
    return f"<p>inputs and targets ({len(inputs)}, {width})</p>" + "".join(parts)


def _words(ids: Sequence[int], windows: "Windows | None") -> list[str]:
    tokenizer = None if windows is None else _tokenizer_beside(windows)
    if tokenizer is None:
        return [str(index) for index in ids]
    return ["" if index < 0 else escape(visible(tokenizer.decode([index]))) for index in ids]


def _tokenizer_beside(windows: "Windows") -> Tokenizer | None:
    folder: Path | None = getattr(windows.tokens, "folder", None)
    try:
        return None if folder is None else load_tokenizer(folder.parent / "tokenizer")
    except UserError:
        return None  # ids are shown


def _row(name: str, cells: Sequence[str], styles: Sequence[str]) -> str:
    inside = (f'<td style="{s}">{cell}</td>' for cell, s in zip(cells, styles, strict=True))
    return f'<tr><th style="text-align:right">{name}</th>{"".join(inside)}</tr>'


def _table(rows: Sequence[str]) -> str:
    return f'<table style="border-collapse:collapse;margin:.4em 0">{"".join(rows)}</table>'
