"""Where two sequences differ."""

from collections.abc import Sequence
from typing import Any


def n_common(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Count the equal items at the beginning of both: the index of the first difference.

    >>> n_common([1, 2, 3], [1, 2, 4]), n_common("ab", "abc"), n_common([], [1])
    (2, 2, 0)
    """
    for i, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return i
    return min(len(first), len(second))
