"""`groundup ledger`: how every token of an epoch is used, for several kinds of windows."""

from dataclasses import asdict

from groundup.base.errors import quoted
from groundup.base.folder_kinds import data_with_stores
from groundup.cli.console import next_command, note, plural, table
from groundup.data.config import LedgerConfig
from groundup.data.ledger import BOOK, LedgerColumn, LedgerResult, ledger

_ROWS = {
    "windows": "n_windows",
    "full batches": "n_full_batches",
    "targets": "n_targets",
    "  trained once": "n_targets_once",
    "  trained more than once": "n_targets_repeated",
    "    at most (times)": "most_often",
    "  never: the last tokens": "n_targets_tail",
    "  never: between windows": "n_targets_gap",
    "  never: document starts": "n_targets_document",
    "predictions": "n_trainings",
    "  across documents": "n_trainings_crossing",
    "  dropped by drop_last": "n_trainings_drop_last",
    "padding": "n_padding",
}
_COLUMNS = {
    BOOK: "the windows of create_dataloader_v1, one every STRIDE tokens over the concatenated "
    "documents. Tokens after the last window are never trained.",
    "exact": "the same, and one more window that ends at the end of the text. Targets of an "
    "earlier window are masked, so every target is trained once.",
    "isolated": "as exact, and documents are separate: a prediction sees only its own document, "
    "and the first token of a document is not a target.",
    "packed": "each window is filled with complete documents (long ones are cut), and the rest is "
    "padding; documents are separate.",
    "padded": "each window has one document, or a piece of a long one, and the rest is padding.",
}


def run(config: LedgerConfig) -> dict[str, LedgerColumn]:
    """Print the counts of one epoch side by side."""
    result = ledger(config)
    counts = [{"n_windows": c.n_windows, **asdict(c.ledger)} for c in result.columns.values()]
    stride, documents = f"{config.stride:,}", plural(result.n_documents, "document")
    table(
        f"One epoch of {result.n_tokens:,} tokens in {documents}: context "
        f"length {config.context_length:,}, stride {stride}, batch size {config.batch_size:,}",
        ["count", *(name.replace(" ", "\n") for name in result.columns)],
        [[name, *(f"{count[field]:,}" for count in counts)] for name, field in _ROWS.items()],
    )
    note(
        "Targets are all tokens after the first. Predictions count a target each time it is "
        "trained."
    )
    for name in result.columns:
        note(f"  {name}: {_COLUMNS[name].replace('STRIDE', stride)}")
    for name, reason in result.left_out.items():
        note(f"  {name} is not shown: {reason}")
    _note_losses(result)
    data = data_with_stores(config.data)  # None for a store alone
    if data is not None:
        next_command(f"groundup plan {quoted(data)}")
    return result.columns  # results/ledger.json keeps the columns alone


def _note_losses(result: LedgerResult) -> None:
    if BOOK in result.columns:
        book = result.columns[BOOK].ledger
        lost = book.n_targets_tail + book.n_targets_gap
        note(
            f"The book's loader never trains {lost:,} of {book.n_targets:,} targets, and drops up "
            f"to {book.n_trainings_drop_last:,} predictions in the last batch of an epoch. The "
            "loader of `pretrain` continues across epochs and drops no batch."
        )
