"""`groundup ledger`: what becomes of every token in an epoch, under several ways to slide."""

from dataclasses import asdict, dataclass
from pathlib import Path

from groundup.base.errors import UserError, quoted
from groundup.cli.console import next_command, note, table
from groundup.data.ledger import Ledger, account
from groundup.data.store import TokenStore, is_store
from groundup.data.windows import Coverage, Documents, Windows


@dataclass(frozen=True, kw_only=True)
class LedgerConfig:
    """Which windows and batches to account for."""

    data: Path = Path("data")
    """A data folder with token stores, or one store."""
    context: int = 256
    """T: how many tokens a window shows."""
    stride: int = 128
    """How far the window slides."""
    batch: int = 8
    """B: how many windows a batch holds."""


@dataclass(frozen=True, kw_only=True)
class LedgerView:
    """One way to slide, and its account."""

    n_windows: int
    ledger: Ledger


_BOOK = "book's loader"
_ROWS = {
    "windows": "n_windows",
    "full batches": "n_full_batches",
    "targets": "n_targets",
    "  trained once": "n_targets_once",
    "  trained more often": "n_targets_repeated",
    "    at most": "most_often",
    "  never: beyond the last": "n_targets_tail",
    "  never: between windows": "n_targets_gap",
    "  never: begins a document": "n_targets_document",
    "trainings": "n_trainings",
    "  seeing another document": "n_trainings_crossing",
    "  that drop_last drops": "n_trainings_drop_last",
    "padding": "n_padding",
}


def run(config: LedgerConfig) -> dict[str, LedgerView]:
    """Show the accounts of one epoch side by side."""
    store = TokenStore.open(config.data if is_store(config.data) else config.data / "train")
    ways: list[tuple[str, int, Coverage, Documents]] = [
        (_BOOK, config.stride, "book", "stream"),
        ("exact", min(config.stride, config.context), "exact", "stream"),
        ("isolated", min(config.stride, config.context), "exact", "isolated"),
        ("packed", config.context, "book", "packed"),
    ]
    views = {}
    for name, stride, coverage, documents in ways:
        try:
            windows = Windows(store, config.context, stride, coverage, documents)
        except UserError as reason:
            note(f"{name}: {reason}")
            continue
        ledger = account(windows, config.batch)
        views[name] = LedgerView(n_windows=len(windows), ledger=ledger)
    if not views:
        raise UserError(
            "no way to slide gives a window",
            need="a shorter context, or a longer text",
            where=config.data,
            type_this=f"groundup ledger {quoted(config.data)} "
            f"--context {max(1, store.n_tokens // 2)}",
        )
    counts = [{"n_windows": view.n_windows, **asdict(view.ledger)} for view in views.values()]
    table(
        f"One epoch of {store.n_tokens:,} tokens in {store.n_documents:,} documents: "
        f"context {config.context}, stride {config.stride}, batch {config.batch}",
        ["tokens", *views],
        [[name, *(f"{count[field]:,}" for count in counts)] for name, field in _ROWS.items()],
    )
    note(
        "Targets are the tokens after the first; a training is a target trained once. The book's "
        "loader is create_dataloader_v1; exact, isolated and packed are ours."
    )
    if _BOOK in views:
        book = views[_BOOK].ledger
        lost = book.n_targets_tail + book.n_targets_gap
        note(
            f"The book's loader never trains {lost:,} of {book.n_targets:,} targets, and up to "
            f"{book.n_trainings_drop_last:,} more in an epoch's last batch. Our own loader runs on "
            "across epochs: it drops no batch."
        )
    next_command(f"groundup plan {quoted(config.data)}")
    return views
