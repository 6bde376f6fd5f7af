"""The account of an epoch: how often each token is a target, what falls off, and why.

Windows are intervals of one length at multiples of the stride, so the counts have closed forms;
only what depends on where documents begin costs a pass over their table or over the windows, in
blocks. The tests hold it against counting one by one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundup.data.windows import Windows

_BLOCK = 2**20


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Counts in one epoch. Targets are the tokens after the first.

    Once + repeated + gap + tail + document is always all of them.
    """

    n_targets: int
    """How many targets the text has."""
    n_targets_once: int
    """Trained once."""
    n_targets_repeated: int
    """Trained more than once: windows overlap there."""
    n_targets_gap: int
    """Never trained: a stride beyond the context jumps over them."""
    n_targets_tail: int
    """Never trained: they stand beyond the last window."""
    n_targets_document: int
    """Never trained: a document's first token, where documents are kept apart."""
    most_often: int
    """How often the most trained target is trained."""
    n_trainings: int
    """Targets trained, each counted as often as it is: what an epoch costs."""
    n_trainings_crossing: int
    """Of these, with tokens of an earlier document in sight."""
    n_padding: int
    """Places in the windows that hold no token."""
    n_full_batches: int
    """Batches that are full."""
    n_windows_drop_last: int
    """Windows in the last batch when it is not full; `drop_last` drops them."""
    n_trainings_drop_last: int
    """Targets those windows hold, at most; under a shuffled order other ones in each epoch."""


def account(windows: Windows, batch_size: int) -> Ledger:
    """Count what every target of an epoch meets.

    >>> import numpy as np
    >>> ledger = account(Windows(np.arange(11), context_length=4, stride=2), batch_size=3)
    >>> ledger.n_targets_once, ledger.n_targets_repeated, ledger.n_targets_tail
    (4, 6, 0)
    >>> ledger.n_windows_drop_last, ledger.n_trainings_drop_last
    (1, 4)
    """
    assert batch_size >= 1, batch_size
    n_windows, width = len(windows), windows.width
    n_targets = windows.n_tokens - 1
    n_full, n_rest = divmod(n_windows, batch_size)
    if windows.rows is not None:
        n_trainings = windows.rows.n_tasks
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
            n_padding=n_windows * width - n_trainings,
            n_full_batches=n_full,
            n_windows_drop_last=n_rest,
            n_trainings_drop_last=min(n_rest * width, n_trainings),
        )
    if windows.coverage == "exact":
        reached, most_often, n_trainings = n_targets, 1, n_targets
    else:
        reached = (n_windows - 1) * windows.stride + width
        most_often = min(n_windows, -(-width // windows.stride))
        n_trainings = n_windows * width
    trained, repeated = trained_at_least(windows, 1), trained_at_least(windows, 2)
    once, n_document = trained - repeated, 0
    if windows.documents == "isolated":
        times = times_a_target(windows, _later_document_starts(windows))
        n_document = int((times > 0).sum())
        n_trainings -= int(times.sum())
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


def trained_at_least(windows: Windows, times: int) -> int:
    """Count the targets that windows over a stream train so often or more, in O(1) time and memory.

    A target lies in k windows or more just when it lies in some window and in the (k-1)-th after
    it: in a stretch of T - (k-1)s targets. There are n-k+1 such stretches, one every s targets;
    where they are shorter than s they stand apart, else they join.

    >>> import numpy as np
    >>> windows = Windows(np.arange(11), context_length=4, stride=1)
    >>> [trained_at_least(windows, k) for k in (1, 2, 3, 4, 5)]
    [10, 8, 6, 4, 0]
    """
    assert times >= 1, times
    if windows.coverage == "exact":
        return windows.n_tokens - 1 if times == 1 else 0
    length = windows.width - (times - 1) * windows.stride
    n_stretches = len(windows) - times + 1
    if length <= 0 or n_stretches <= 0:
        return 0
    return (n_stretches - 1) * min(windows.stride, length) + length


def times_a_target(windows: Windows, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count for tokens at some places (none of them 0) how many windows have them as a target.

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
    """Count the trained targets that see a document before their own.

    In a window that begins at a, these are the targets beyond the first document start d > a; where
    documents are kept apart there are none.
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
            counted_from = counted_from + windows.n_counted(indices)
        seen = np.maximum(end - np.maximum(start, counted_from) + 1, 0)
        n_crossing += int(seen[found].sum())
    return n_crossing
