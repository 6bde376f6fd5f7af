"""The account of an epoch: how often each token is a target, and what falls off, and why."""

from dataclasses import dataclass

from groundup.data.windows import Windows


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Counts of targets (tokens after the first) in one epoch."""

    n_targets: int
    n_targets_once: int
    n_targets_repeated: int
    n_targets_gap: int
    n_targets_tail: int
    most_often: int
    n_full_batches: int
    n_windows_drop_last: int


def account(windows: Windows, batch_size: int) -> Ledger:
    """Count in O(1) memory what every target of an epoch meets.

    The counts always add up: once + repeated + gap + tail == n_targets.

    >>> import numpy as np
    >>> ledger = account(Windows(np.arange(11), context_length=4, stride=2), batch_size=2)
    >>> ledger.n_targets_once, ledger.n_targets_repeated, ledger.n_targets_tail
    (4, 6, 0)
    """
    n, width, stride = len(windows), windows.width, windows.stride
    n_targets = windows.n_tokens - 1
    n_full, n_rest = divmod(n, batch_size)
    if windows.coverage == "exact":
        once, repeated, gap, tail, most = n_targets, 0, 0, 0, 1
    else:
        reached = (n - 1) * stride + width
        tail = n_targets - reached
        if stride >= width:
            once, repeated, most = n * width, 0, 1
            gap = (n - 1) * (stride - width)
        else:
            # A target is met by every window that covers it: once only near the two ends
            # and in the stretches that a single window covers.
            gap, most = 0, min(n, -(-width // stride))
            once = _covered_once(n, width, stride)
            repeated = reached - once
    return Ledger(
        n_targets=n_targets,
        n_targets_once=once,
        n_targets_repeated=repeated,
        n_targets_gap=gap,
        n_targets_tail=tail,
        most_often=most,
        n_full_batches=n_full,
        n_windows_drop_last=n_rest,
    )


def _covered_once(n: int, width: int, stride: int) -> int:
    """Count the positions that exactly one of n windows at multiples of a smaller stride covers."""
    if n == 1:
        return width
    ends = 2 * stride  # before the second window starts, after the last but one ends
    inner = max(0, 2 * stride - width) * (n - 2)  # between the window before and the one after
    return ends + inner
