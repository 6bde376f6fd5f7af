"""The sliding window: a context of T tokens holds T next-token tasks, and slides by a stride.

For n tokens, context length T and stride s the book's rule gives `max(0, ceil((n - T) / s))`
windows; window i is `inputs = tokens[i*s : i*s+T]`, `targets = tokens[i*s+1 : i*s+T+1]`. Its last
windows may leave a tail of tokens that are never a target, and a stride below T makes targets of
the overlap several times. `coverage="exact"` mends both: as many windows as are needed to reach the
end, the last one moved back to end there, and every target that an earlier window had is masked.
"""

import operator
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from groundup.base.errors import UserError

IGNORED = -100
"""The target that no loss counts (torch's `ignore_index` default)."""

Coverage = Literal["book", "exact"]


class Tokens(Protocol):
    """What windows slide over: a store of tokens."""

    @property
    def n_tokens(self) -> int:
        """How many tokens there are."""
        ...

    def read(self, start: int, stop: int) -> NDArray[np.integer]:
        """Give tokens[start:stop], of unsigned or signed integers."""
        ...


class ArrayTokens:
    """An array in memory as a store."""

    def __init__(self, array: NDArray[np.integer]) -> None:
        self._array = array

    @property
    def n_tokens(self) -> int:
        """How many tokens there are."""
        return len(self._array)

    def read(self, start: int, stop: int) -> NDArray[np.integer]:
        """Give a view."""
        return self._array[start:stop]


class Windows:
    """Windows over tokens, each found in O(1) time and memory.

    Args:
        tokens: A TokenStore, or a one-dimensional integer array.
        context_length: T, how many tokens a window shows.
        stride: s, how far it slides; None means T (no overlap).
        coverage: "book" for the rule above; "exact" makes every token after the first a target
            exactly once (other targets are -100), for any stride up to T.

    Raises:
        UserError: A size is below one, or the text has no window of this size.

    >>> windows = Windows(np.arange(10), context_length=4, stride=4)
    >>> len(windows), *map(list, windows[1])
    (2, [4, 5, 6, 7], [5, 6, 7, 8])
    """

    def __init__(
        self,
        tokens: "Tokens | NDArray[np.integer]",
        context_length: int,
        stride: int | None = None,
        coverage: Coverage = "book",
    ) -> None:
        self.tokens: Tokens = ArrayTokens(tokens) if isinstance(tokens, np.ndarray) else tokens
        self.context_length = context_length
        self.stride = context_length if stride is None else stride
        self.coverage = coverage
        self.n_tokens = self.tokens.n_tokens
        if self.context_length < 1 or self.stride < 1:
            raise UserError(
                f"context_length {self.context_length} and stride {self.stride}",
                need="one or more for each",
                type_this="--context-length 128 --stride 128",
            )
        if coverage == "exact" and self.stride > context_length:
            raise UserError(
                f"a stride of {self.stride} jumps over tokens of a context of {context_length}",
                need="a stride up to the context length for exact coverage",
                type_this=f"--stride {context_length}",
            )
        n_targets = self.n_tokens - 1
        if coverage == "book":
            self._length = max(0, -((context_length - self.n_tokens) // self.stride))
        else:
            beyond = max(0, n_targets - context_length)
            self._length = 1 + -(-beyond // self.stride) if n_targets > 0 else 0
        if self._length == 0:
            raise UserError(
                f"the text has {self.n_tokens:,} tokens, too few for a window of "
                f"{context_length:,} inputs and their targets",
                need=f"a longer text, or a context of at most {max(1, n_targets):,}",
                type_this=f"--context-length {max(1, min(n_targets, context_length // 2))}",
            )

    def __len__(self) -> int:
        """Count the windows of one epoch."""
        return self._length

    @property
    def width(self) -> int:
        """How many inputs a window really has: T, or less when the whole text is shorter."""
        return min(self.context_length, self.n_tokens - 1)

    def start(self, index: int) -> int:
        """Give the first token of a window.

        Raises:
            IndexError: There is no such window.
        """
        index = operator.index(index)
        if index < 0:
            index += self._length
        if not 0 <= index < self._length:
            raise IndexError(f"window {index} of {self._length}")
        return int(self.starts(np.array([index], dtype=np.int64))[0])

    def starts(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the first tokens of several windows; indices must be within 0 and len."""
        if self.coverage == "book":
            return indices * self.stride
        return np.minimum(indices * self.stride, self.n_tokens - 1 - self.width)

    def __getitem__(self, index: int) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """Give one window's inputs and targets, (T,) each: views where the store allows.

        In exact coverage the targets are an int64 copy in which -100 marks those already counted.
        """
        start = self.start(index)
        both = self.tokens.read(start, start + self.width + 1)
        inputs, targets = both[:-1], both[1:]
        if self.coverage == "book":
            return inputs, targets
        masked = targets.astype(np.int64)
        n_counted = self._n_counted(np.array([operator.index(index) % self._length]))[0]
        masked[:n_counted] = IGNORED
        return inputs, masked

    def gather(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give the inputs and targets of several windows, (B, T) int64 each, in the order asked."""
        starts = self.starts(indices)
        both = np.empty((len(starts), self.width + 1), dtype=np.int64)
        for row, start in zip(both, starts.tolist(), strict=True):
            row[:] = self.tokens.read(start, start + self.width + 1)
        inputs, targets = both[:, :-1], both[:, 1:]
        if self.coverage == "exact":
            targets = targets.copy()
            counted = np.arange(self.width) < self._n_counted(indices)[:, None]
            targets[counted] = IGNORED
        return inputs, targets

    def _n_counted(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many of a window's first targets the window before it had already."""
        before = np.where(indices > 0, self.starts(np.maximum(indices - 1, 0)) + self.width, 0)
        return np.clip(before - self.starts(indices), 0, self.width)
