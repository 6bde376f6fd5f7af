"""`groundup windows`: the pairs of one window, one batch as two matrices, the counts."""

from rich.markup import escape

from groundup.base.errors import quoted
from groundup.cli.console import console, harmless, next_command, note, style, table
from groundup.data.config import WindowsConfig
from groundup.data.preview import WindowsPreview, preview_windows
from groundup.inspection.slide import write_windows_page
from groundup.tokenizer.show import visible


def run(config: WindowsConfig) -> WindowsPreview:
    """Print pairs, a batch and the counts of an epoch."""
    preview = preview_windows(config)
    _show_pairs(preview)
    if style.is_brief:
        note(
            f"A batch has {preview.batch_size} windows, and an epoch {preview.n_windows:,} windows "
            f"with {preview.ledger.n_targets_once:,} targets."
        )
    else:
        _show_batch(preview)
        _show_counts(preview)
    if config.page is not None:
        note(f"Open {write_windows_page(config.data, config.page)} in a browser.")
    next_command(f"groundup plan {quoted(config.data)}")
    return preview


def _show_pairs(preview: WindowsPreview) -> None:
    note(
        f"A context of {preview.context_length} tokens holds {preview.context_length} next-token "
        f"predictions. The first {len(preview.pairs)} of the first window:"
    )
    for context, target in preview.pairs:
        shown = ", ".join(escape(harmless(visible(token))) for token in context)
        following = escape(harmless(visible(target)))
        console.print(f"  \\[{shown}]  [dim]->[/dim]  [bold]{following}[/bold]", soft_wrap=True)


def _show_batch(preview: WindowsPreview) -> None:
    n_rows, n_columns = len(preview.input_ids), len(preview.input_ids[0])
    more = "" if n_rows == preview.batch_size else f", the first {n_rows} rows"
    if n_columns < preview.context_length:
        more += f", the first {n_columns} columns"
    for name, ids, text in (
        ("inputs", preview.input_ids, preview.input_text),
        ("targets", preview.target_ids, preview.target_text),
    ):
        rows = []
        for b, (row_ids, row_text) in enumerate(zip(ids, text, strict=True)):
            cells = [f"{i}\n{visible(t)}" for i, t in zip(row_ids, row_text, strict=True)]
            rows.append([f"window {b}", *cells])
        title = f"{name} ({preview.batch_size}, {preview.context_length}){more}: id above text"
        table(title, ["", *(str(i) for i in range(n_columns))], rows)
    note("Targets are inputs shifted by one: targets[b, t] == inputs[b, t + 1].")


def _show_counts(preview: WindowsPreview) -> None:
    ledger = preview.ledger
    table(
        f"One epoch: {preview.n_tokens:,} tokens, stride {preview.stride}",
        ["per epoch", "count"],
        [
            ["windows", f"{preview.n_windows:,}"],
            ["full batches", f"{ledger.n_full_batches:,}"],
            ["targets trained once", f"{ledger.n_targets_once:,}"],
            ["targets trained more than once", f"{ledger.n_targets_repeated:,}"],
            ["targets never trained: between windows", f"{ledger.n_targets_gap:,}"],
            ["targets never trained: after the last window", f"{ledger.n_targets_tail:,}"],
            ["windows dropped by drop_last", f"{ledger.n_windows_drop_last:,}"],
        ],
    )
