"""Sliding windows in lists and loops, slow and simple.

Written from the definition, independently of `groundup.data`, for tests to compare with.
"""

from collections.abc import Sequence


def book_windows(
    tokens: Sequence[int], context_length: int, stride: int
) -> list[tuple[list[int], list[int]]]:
    """Slide a window of T tokens over the text. The targets are the inputs shifted by one token.

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
    """Slide so that every token after the first is a target exactly once.

    Targets of an earlier window are ignored. The last window is moved back to end with the text. A
    text shorter than T is one window.

    >>> exact_windows([10, 11, 12, 13], context_length=2, stride=2)
    [([10, 11], [11, 12]), ([11, 12], [-100, 13])]
    """
    assert 1 <= stride <= context_length, (stride, context_length)
    windows: list[tuple[list[int], list[int]]] = []
    done: set[int] = set()  # positions that were a target
    start = 0
    while len(done) < len(tokens) - 1:
        start = max(0, min(start, len(tokens) - 1 - context_length))
        positions = [p for p in range(start, start + context_length) if p + 1 < len(tokens)]
        inputs = [tokens[p] for p in positions]
        targets = [ignored if p + 1 in done else tokens[p + 1] for p in positions]
        windows.append((inputs, targets))
        done.update(p + 1 for p in positions)
        start += stride
    return windows


def tasks(inputs: Sequence[int], targets: Sequence[int]) -> list[tuple[list[int], int]]:
    """List the next-token predictions of a window: T tokens of context give T predictions.

    >>> tasks([10, 11, 12], [11, 12, 13])
    [([10], 11), ([10, 11], 12), ([10, 11, 12], 13)]
    """
    return [(list(inputs[: t + 1]), targets[t]) for t in range(len(inputs))]


def times_trained(n_tokens: int, context_length: int, stride: int) -> list[int]:
    """Count how often each token is a target in one epoch of book windows.

    >>> times_trained(6, context_length=3, stride=1)
    [0, 1, 2, 3, 2, 1]
    """
    counts = [0] * n_tokens
    for _, targets in book_windows(range(n_tokens), context_length, stride):
        for target in targets:
            counts[target] += 1
    return counts


def epoch_batches(order: Sequence[int], batch_size: int, *, drop_last: bool) -> list[list[int]]:
    """Split the order of windows of an epoch into batches.

    >>> epoch_batches([3, 1, 0, 2, 4], 2, drop_last=True)
    [[3, 1], [0, 2]]
    """
    batches = [list(order[k : k + batch_size]) for k in range(0, len(order), batch_size)]
    if drop_last and batches and len(batches[-1]) < batch_size:
        batches.pop()
    return batches
