"""Sliding windows, slow and obvious: lists and loops, to hold the fast ones against.

Written from the rule alone, apart from the data room's code.
"""

from collections.abc import Sequence


def book_windows(
    tokens: Sequence[int], context_length: int, stride: int
) -> list[tuple[list[int], list[int]]]:
    """Slide a window of T tokens over the text; the targets are the inputs one token later.

    Source: Raschka, "Build a Large Language Model (From Scratch)" (2024), section 2.6.

    >>> book_windows([10, 11, 12, 13, 14], context_length=2, stride=2)
    [([10, 11], [11, 12]), ([12, 13], [13, 14])]
    """
    windows = []
    for start in range(0, len(tokens) - context_length, stride):
        inputs = list(tokens[start : start + context_length])
        targets = list(tokens[start + 1 : start + context_length + 1])
        windows.append((inputs, targets))
    return windows


def exact_windows(
    tokens: Sequence[int], context_length: int, stride: int, ignored: int = -100
) -> list[tuple[list[int], list[int]]]:
    """Slide so that every token after the first is a target once; targets had before are ignored.

    The last window is moved back to end with the text. A text shorter than T is one window.

    >>> exact_windows([10, 11, 12, 13], context_length=2, stride=2)
    [([10, 11], [11, 12]), ([11, 12], [-100, 13])]
    """
    assert 1 <= stride <= context_length, (stride, context_length)
    windows: list[tuple[list[int], list[int]]] = []
    had: set[int] = set()
    start = 0
    while len(had) < len(tokens) - 1:
        start = max(0, min(start, len(tokens) - 1 - context_length))
        places = [p for p in range(start, start + context_length) if p + 1 < len(tokens)]
        inputs = [tokens[p] for p in places]
        targets = [ignored if p + 1 in had else tokens[p + 1] for p in places]
        windows.append((inputs, targets))
        had.update(p + 1 for p in places)
        start += stride
    return windows


def tasks(inputs: Sequence[int], targets: Sequence[int]) -> list[tuple[list[int], int]]:
    """Unfold a window into its next-token tasks: a context of T holds T of them.

    >>> tasks([10, 11, 12], [11, 12, 13])
    [([10], 11), ([10, 11], 12), ([10, 11, 12], 13)]
    """
    return [(list(inputs[: t + 1]), targets[t]) for t in range(len(inputs))]


def times_trained(n_tokens: int, context_length: int, stride: int) -> list[int]:
    """Count for each token how often an epoch of book windows has it as a target.

    >>> times_trained(6, context_length=3, stride=1)
    [0, 1, 2, 3, 2, 1]
    """
    counts = [0] * n_tokens
    for _, targets in book_windows(range(n_tokens), context_length, stride):
        for target in targets:
            counts[target] += 1
    return counts


def epoch_batches(order: Sequence[int], batch_size: int, *, drop_last: bool) -> list[list[int]]:
    """Cut an epoch's order of windows into batches.

    >>> epoch_batches([3, 1, 0, 2, 4], 2, drop_last=True)
    [[3, 1], [0, 2]]
    """
    batches = [list(order[k : k + batch_size]) for k in range(0, len(order), batch_size)]
    if drop_last and batches and len(batches[-1]) < batch_size:
        batches.pop()
    return batches
