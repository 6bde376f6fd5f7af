"""`groundup windows`: the pairs of one window, one batch as two matrices, the account."""

from dataclasses import dataclass
from pathlib import Path

from groundup.base.errors import quoted
from groundup.cli.console import console, next_command, note, table
from groundup.data.ledger import Ledger, account
from groundup.data.loader import Loader
from groundup.data.store import TokenStore
from groundup.data.windows import Windows
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.show import visible

_SHOWN_PAIRS = 8
_SHOWN_COLUMNS = 8


@dataclass(frozen=True, kw_only=True)
class WindowsConfig:
    """How the window slides."""

    data: Path = Path("data")
    """A data folder with token stores, made by `groundup train-tokenizer`."""
    context_length: int = 128
    """T: how many tokens a window shows, and how many next-token tasks it holds."""
    stride: int | None = None
    """How far the window slides; off means T, no overlap."""
    batch_size: int = 4
    """B: how many windows a batch holds."""
    seed: int = 1234
    """What keys the order of the windows."""
    page: Path | None = None
    """Write a page here, too, on which the window slides over the text: windows.html."""


@dataclass(frozen=True, kw_only=True)
class WindowsView:
    """What was shown."""

    context_length: int
    stride: int
    batch_size: int
    n_tokens: int
    n_windows: int
    pairs: list[tuple[list[str], str]]
    input_ids: list[list[int]]
    target_ids: list[list[int]]
    input_text: list[list[str]]
    target_text: list[list[str]]
    ledger: Ledger


def run(config: WindowsConfig) -> WindowsView:
    """Show pairs, a batch and the account of an epoch."""
    store = TokenStore.open(config.data / "train")
    tokenizer = load_tokenizer(config.data / "tokenizer")
    windows = Windows(store, config.context_length, config.stride)
    view = _look(config, windows, store, tokenizer)
    _show_pairs(view)
    _show_batch(view)
    _show_account(view, config)
    if config.page is not None:
        from groundup.inspection.slide import write_windows_page

        note(f"Open {write_windows_page(config.data, config.page)} in a browser.")
    next_command(f"groundup plan {quoted(config.data)}")
    return view


def _look(
    config: WindowsConfig, windows: Windows, store: TokenStore, tokenizer: Tokenizer
) -> WindowsView:
    inputs, targets = windows[0]
    n_pairs = min(_SHOWN_PAIRS, len(inputs))
    words = [tokenizer.decode([index]) for index in inputs[:n_pairs].tolist()]
    nexts = [tokenizer.decode([index]) for index in targets[:n_pairs].tolist()]
    batch_inputs, batch_targets = Loader(windows, config.batch_size, seed=config.seed).batch(0)
    input_ids = batch_inputs[:, :_SHOWN_COLUMNS].tolist()
    target_ids = batch_targets[:, :_SHOWN_COLUMNS].tolist()
    return WindowsView(
        context_length=config.context_length,
        stride=windows.stride,
        batch_size=config.batch_size,
        n_tokens=store.n_tokens,
        n_windows=len(windows),
        pairs=[(words[: i + 1], nexts[i]) for i in range(n_pairs)],
        input_ids=input_ids,
        target_ids=target_ids,
        input_text=[[tokenizer.decode([i]) for i in row] for row in input_ids],
        target_text=[[tokenizer.decode([i]) for i in row] for row in target_ids],
        ledger=account(windows, config.batch_size),
    )


def _show_pairs(view: WindowsView) -> None:
    note(
        f"A context of {view.context_length} tokens holds {view.context_length} next-token tasks. "
        f"The first {len(view.pairs)} of the first window:"
    )
    for context, target in view.pairs:
        shown = ", ".join(_mark(word) for word in context)
        console.print(f"  \\[{shown}]  [dim]->[/dim]  [bold]{_mark(target)}[/bold]", soft_wrap=True)


def _show_batch(view: WindowsView) -> None:
    width = len(view.input_ids[0])
    more = "" if width == view.context_length else f", the first {width} of {view.context_length}"
    columns = ["", *(str(i) for i in range(width))]
    for name, ids, text in (
        ("inputs", view.input_ids, view.input_text),
        ("targets", view.target_ids, view.target_text),
    ):
        rows = []
        for b, (row_ids, row_text) in enumerate(zip(ids, text, strict=True)):
            cells = [f"{i}\n{visible(t)}" for i, t in zip(row_ids, row_text, strict=True)]
            rows.append([f"window {b}", *cells])
        shape = f"({view.batch_size}, {view.context_length})"
        table(f"{name} {shape}{more} columns: id over text", columns, rows)
    note("Targets are inputs shifted by one: targets[b, t] == inputs[b, t + 1].")


def _show_account(view: WindowsView, config: WindowsConfig) -> None:
    ledger = view.ledger
    table(
        f"One epoch: {view.n_tokens:,} tokens, stride {view.stride}",
        ["what", "count"],
        [
            ["windows", f"{view.n_windows:,}"],
            ["full batches", f"{ledger.n_full_batches:,}"],
            ["targets trained once", f"{ledger.n_targets_once:,}"],
            ["targets trained more than once", f"{ledger.n_targets_repeated:,}"],
            ["targets never trained: beyond the last window", f"{ledger.n_targets_tail:,}"],
            ["windows a loader with drop_last would drop", f"{ledger.n_windows_drop_last:,}"],
        ],
    )


def _mark(token: str) -> str:
    from rich.markup import escape

    return escape(visible(token))
