"""Token accounting: how often each token of an epoch is a target, what is left out, and why.

Windows are intervals of equal length at multiples of the stride, so the counts have closed forms.
Only counts that depend on document boundaries take a pass over the document table or over the
windows, in blocks. The tests compare all of them with counting one by one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundup.base.calling import takes_settings
from groundup.base.errors import UserError
from groundup.data.config import LedgerConfig
from groundup.data.manifest import is_store
from groundup.data.store import TokenStore
from groundup.data.windows import Coverage, Documents, Windows, check_sizes

BOOK = "book's loader"
"""The column of `create_dataloader_v1`."""
_BLOCK = 2**20


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Counts in one epoch. The targets of a text are all tokens after the first.

    once + repeated + gap + tail + document = all targets.
    """

    n_targets: int
    """Number of targets in the text."""
    n_targets_once: int
    """Targets trained once."""
    n_targets_repeated: int
    """Targets trained more than once, where windows overlap."""
    n_targets_gap: int
    """Targets never trained: a stride above the context length skips them."""
    n_targets_tail: int
    """Targets never trained: they are after the last window."""
    n_targets_document: int
    """Targets never trained: first tokens of documents, where documents are separate."""
    most_often: int
    """Number of times the most frequent target is trained."""
    n_trainings: int
    """Number of predictions trained: targets, each counted as often as it is trained."""
    n_trainings_crossing: int
    """Predictions whose context includes tokens of an earlier document."""
    n_padding: int
    """Positions in the windows that hold padding."""
    n_full_batches: int
    """Number of full batches."""
    n_windows_drop_last: int
    """Windows in an incomplete last batch, which `drop_last` drops."""
    n_trainings_drop_last: int
    """Predictions in those windows, at most; in a shuffled order they differ in each epoch."""


@dataclass(frozen=True, kw_only=True)
class LedgerColumn:
    """The counts for one kind of windows."""

    n_windows: int
    ledger: Ledger


@dataclass(frozen=True, kw_only=True)
class LedgerResult:
    """The counts of one epoch for several kinds of windows."""

    n_tokens: int
    n_documents: int
    columns: dict[str, LedgerColumn]
    """By kind of windows: "book's loader", "exact", "isolated", "packed" and "padded"."""
    left_out: dict[str, str]
    """Kinds of windows that the text is too short for, and why."""


@takes_settings(LedgerConfig, "data")
def ledger(config: LedgerConfig) -> LedgerResult:
    """Count what one epoch trains, with the book's windows and with those of this package.

    Raises:
        UserError: There is no token store, or the text has no window of this size.
    """
    check_sizes(config.context_length, config.stride)
    store = TokenStore.open(config.data if is_store(config.data) else config.data / "train")
    length = config.context_length
    # Exact coverage allows no stride above the context length, and packed rows take no stride.
    kinds: list[tuple[str, int, Coverage, Documents]] = [
        (BOOK, config.stride, "book", "stream"),
        ("exact", min(config.stride, length), "exact", "stream"),
        ("isolated", min(config.stride, length), "exact", "isolated"),
        ("packed", length, "book", "packed"),
        ("padded", length, "book", "padded"),
    ]
    columns: dict[str, LedgerColumn] = {}
    reasons: dict[str, UserError] = {}
    for name, stride, coverage, documents in kinds:
        try:
            windows = Windows(store, length, stride, coverage, documents)
        except UserError as reason:
            reasons[name] = reason
            continue
        counts = account(windows, config.batch_size)
        columns[name] = LedgerColumn(n_windows=len(windows), ledger=counts)
    if not columns:
        first = reasons[BOOK]
        raise UserError(first.message, where=config.data, settings=first.settings)
    return LedgerResult(
        n_tokens=store.n_tokens,
        n_documents=store.n_documents,
        columns=columns,
        left_out={name: reason.message for name, reason in reasons.items()},
    )


def account(windows: Windows, batch_size: int) -> Ledger:
    """Count how every target of an epoch is used.

    Raises:
        UserError: The batch size is below 1.

    >>> import numpy as np
    >>> ledger = account(Windows(np.arange(11), context_length=4, stride=2), batch_size=3)
    >>> ledger.n_targets_once, ledger.n_targets_repeated, ledger.n_targets_tail
    (4, 6, 0)
    >>> ledger.n_windows_drop_last, ledger.n_trainings_drop_last
    (1, 4)
    """
    if batch_size < 1:
        raise UserError(
            f"The batch size is {batch_size}. It must be at least 1.", settings={"batch_size": 8}
        )
    n_windows, width = len(windows), windows.width
    n_targets = windows.n_tokens - 1
    n_full, n_rest = divmod(n_windows, batch_size)
    n_trainings = count_predictions(windows)
    if windows.rows is not None:
        return Ledger(
            n_targets=n_targets,
            n_targets_once=n_trainings,
            n_targets_repeated=0,
            n_targets_gap=0,
            n_targets_tail=0,
            n_targets_document=n_targets - n_trainings,
            most_often=1,
            n_trainings=n_trainings,
            n_trainings_crossing=0,
            n_padding=windows.rows.n_padding,
            n_full_batches=n_full,
            n_windows_drop_last=n_rest,
            n_trainings_drop_last=min(n_rest * width, n_trainings),
        )
    if windows.coverage == "exact":
        reached, most_often = n_targets, 1
    else:
        reached = (n_windows - 1) * windows.stride + width
        most_often = min(n_windows, -(-width // windows.stride))
    trained, repeated = trained_at_least(windows, 1), trained_at_least(windows, 2)
    once, n_document = trained - repeated, 0
    if windows.documents == "isolated":
        times = times_a_target(windows, _later_document_starts(windows))
        n_document = int((times > 0).sum())
        once -= int((times == 1).sum())
        repeated -= int((times > 1).sum())
    return Ledger(
        n_targets=n_targets,
        n_targets_once=once,
        n_targets_repeated=repeated,
        n_targets_gap=reached - trained,
        n_targets_tail=n_targets - reached,
        n_targets_document=n_document,
        most_often=most_often,
        n_trainings=n_trainings,
        n_trainings_crossing=_n_crossing(windows),
        n_padding=0,
        n_full_batches=n_full,
        n_windows_drop_last=n_rest,
        n_trainings_drop_last=min(n_rest * width, n_trainings),
    )


def count_predictions(windows: Windows) -> int:
    """Count the predictions that an epoch trains: targets that are neither padding nor masked."""
    if windows.rows is not None:
        return windows.rows.n_targets
    exact = windows.coverage == "exact"
    n_predictions = windows.n_tokens - 1 if exact else len(windows) * windows.width
    if windows.documents == "isolated":
        n_predictions -= int(times_a_target(windows, _later_document_starts(windows)).sum())
    return n_predictions


def trained_at_least(windows: Windows, times: int) -> int:
    """Count the targets that windows over a stream train at least this often, in O(1) time.

    A target is in at least k windows if and only if it is in some window and in the (k-1)-th after
    it, which share an interval of T - (k-1)s targets. There are n-k+1 such intervals, one every s
    targets; they are disjoint if they are shorter than s, else their union has no gap.

    >>> import numpy as np
    >>> windows = Windows(np.arange(11), context_length=4, stride=1)
    >>> [trained_at_least(windows, k) for k in (1, 2, 3, 4, 5)]
    [10, 8, 6, 4, 0]
    """
    assert times >= 1, times
    if windows.coverage == "exact":
        return windows.n_tokens - 1 if times == 1 else 0
    length = windows.width - (times - 1) * windows.stride
    n_intervals = len(windows) - times + 1
    if length <= 0 or n_intervals <= 0:
        return 0
    return (n_intervals - 1) * min(windows.stride, length) + length


def times_a_target(windows: Windows, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count for the tokens at these positions (above 0) how many windows have them as a target.

    Window i has the targets i*s+1 .. i*s+T, so these are the i with place-T <= i*s <= place-1.
    """
    if windows.coverage == "exact":
        return np.ones(len(places), dtype=np.int64)
    last = np.minimum((places - 1) // windows.stride, len(windows) - 1)
    first = np.maximum(-((windows.width - places) // windows.stride), 0)
    times: NDArray[np.int64] = np.maximum(last - first + 1, 0)
    return times


def _later_document_starts(windows: Windows) -> NDArray[np.int64]:
    starts: NDArray[np.int64] = np.asarray(windows.tokens.document_starts)
    later: NDArray[np.int64] = starts[starts > 0]
    return later


def _n_crossing(windows: Windows) -> int:
    """Count the trained targets whose window also holds a document before their own.

    In a window that begins at a, these are the targets after the first document start d > a; where
    documents are separate there are none.
    """
    starts = _later_document_starts(windows)
    if windows.documents != "stream" or not len(starts):
        return 0
    n_crossing = 0
    for begin in range(0, len(windows), _BLOCK):
        indices = np.arange(begin, min(begin + _BLOCK, len(windows)), dtype=np.int64)
        first = windows.starts(indices)
        which = np.searchsorted(starts, first, side="right")
        found = which < len(starts)
        start = starts[np.minimum(which, len(starts) - 1)]
        end = first + windows.width
        counted_from = first + 1
        if windows.coverage == "exact":
            counted_from = counted_from + windows.n_repeated(indices)
        seen = np.maximum(end - np.maximum(start, counted_from) + 1, 0)
        n_crossing += int(seen[found].sum())
    return n_crossing
