"""The account of an epoch: how often each token is a target, what falls off, and why.

Windows are intervals of one length at multiples of the stride, so every count has a closed form;
nothing is walked through and nothing is kept. The tests hold it against counting one by one.
"""

from dataclasses import dataclass

from groundup.data.windows import Windows


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Counts in one epoch. Targets are the tokens after the first.

    Once + repeated + gap + tail is always all of them.
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
    most_often: int
    """How often the most trained target is trained."""
    n_trainings: int
    """Targets trained, each counted as often as it is: what an epoch costs."""
    n_full_batches: int
    """Batches that are full."""
    n_windows_drop_last: int
    """Windows in the last batch when it is not full; `drop_last` drops them."""
    n_trainings_drop_last: int
    """Targets those windows hold, at most; under a shuffled order other ones in each epoch."""


def account(windows: Windows, batch_size: int) -> Ledger:
    """Count what every target of an epoch meets, in O(1) time and memory.

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
    if windows.coverage == "exact":
        reached, most_often, n_trainings = n_targets, 1, n_targets
    else:
        reached = (n_windows - 1) * windows.stride + width
        most_often = min(n_windows, -(-width // windows.stride))
        n_trainings = n_windows * width
    trained = trained_at_least(windows, 1)
    return Ledger(
        n_targets=n_targets,
        n_targets_once=trained - trained_at_least(windows, 2),
        n_targets_repeated=trained_at_least(windows, 2),
        n_targets_gap=reached - trained,
        n_targets_tail=n_targets - reached,
        most_often=most_often,
        n_trainings=n_trainings,
        n_full_batches=n_full,
        n_windows_drop_last=n_rest,
        n_trainings_drop_last=min(n_rest * width, n_trainings),
    )


def trained_at_least(windows: Windows, times: int) -> int:
    """Count the targets that an epoch trains so often or more, in O(1) time and memory.

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
