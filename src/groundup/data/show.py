"""HTML of windows and batches for notebooks: sliding windows, inputs above targets."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from groundup.base.errors import UserError
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.show import visible

N_ROWS, N_COLUMNS = 4, 12
_CELL = "border:1px solid #8886;padding:.15em .5em;text-align:center;white-space:pre"
_INSIDE = _CELL + ";background:rgba(59,130,246,.25)"
_LAST = _CELL + ";background:rgba(194,65,12,.3)"


def windows_html(
    ids: Sequence[int], starts: Sequence[int], width: int, tokenizer_folder: Path | None
) -> str:
    """Draw windows below their text: inputs in blue, the last target in red.

    Args:
        ids: First token ids of the text.
        starts: First token of each window.
        width: T, tokens per window.
        tokenizer_folder: Tokenizer that decodes the ids. None, or a folder without a tokenizer,
            shows ids.
    """
    last = starts[min(N_ROWS, len(starts)) - 1] + width
    ids = ids[: min(last + 1, 2 * N_COLUMNS)]
    rows = [_row("text", _texts(ids, tokenizer_folder), [_CELL] * len(ids))]
    for i, start in enumerate(starts[:N_ROWS]):
        styles = [
            _INSIDE if start <= p < start + width else _LAST if p == start + width else _CELL
            for p in range(len(ids))
        ]
        rows.append(_row(f"window {i}", [str(index) for index in ids], styles))
    return _table(rows)


def pair_html(
    inputs: Sequence[int], targets: Sequence[int], tokenizer_folder: Path | None = None
) -> str:
    """Draw one window's targets below its inputs."""
    n = min(len(inputs), N_COLUMNS)
    rows = [
        _row(name, _texts(ids[:n], tokenizer_folder), [style] * n)
        for name, ids, style in (("input", inputs, _INSIDE), ("target", targets, _LAST))
    ]
    return _table(rows)


def batch_html(inputs: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> str:
    """Draw each row's targets below its inputs, as ids."""
    parts = [pair_html(x, y) for x, y in zip(inputs[:N_ROWS], targets[:N_ROWS], strict=True)]
    width = len(inputs[0]) if len(inputs) else 0
    return f"<p>inputs and targets ({len(inputs)}, {width})</p>" + "".join(parts)


def _texts(ids: Sequence[int], tokenizer_folder: Path | None) -> list[str]:
    tokenizer = _open_tokenizer(tokenizer_folder)
    if tokenizer is None:
        return [str(index) for index in ids]
    return ["" if index < 0 else escape(visible(tokenizer.decode([index]))) for index in ids]


def _open_tokenizer(folder: Path | None) -> Tokenizer | None:
    try:
        return None if folder is None else load_tokenizer(folder)
    except UserError:
        return None


def _row(name: str, cells: Sequence[str], styles: Sequence[str]) -> str:
    inside = (f'<td style="{s}">{cell}</td>' for cell, s in zip(cells, styles, strict=True))
    return f'<tr><th style="text-align:right">{name}</th>{"".join(inside)}</tr>'


def _table(rows: Sequence[str]) -> str:
    return f'<table style="border-collapse:collapse;margin:.4em 0">{"".join(rows)}</table>'
