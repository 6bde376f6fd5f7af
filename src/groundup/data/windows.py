"""The sliding window: a context of T tokens holds T next-token tasks, and slides by a stride.

For n tokens, context length T and stride s the book's rule gives `max(0, ceil((n - T) / s))`
windows; window i is `inputs = tokens[i*s : i*s+T]`, `targets = tokens[i*s+1 : i*s+T+1]`. Its last
windows may leave a tail of tokens that are never a target, and a stride below T makes targets of
the overlap several times. `coverage="exact"` mends both: as many windows as are needed to reach the
end, the last one moved back to end there, and every target that an earlier window had is masked.

A window over a stream of documents sees the end of one and the beginning of the next. With
`documents="isolated"` it slides the same way, but tells where documents begin, and the first token
of a document is no target; with "packed" and "padded" a window is a row of whole documents
(`data/packing.py`).
"""

import operator
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol, SupportsIndex, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from groundup.base.errors import UserError
from groundup.base.files import sha256_bytes
from groundup.data.boundaries import Boundaries, document_boundaries, from_cuts, starts_inside
from groundup.data.gather import gather_rows
from groundup.data.packing import Rows
from groundup.data.show import N_COLUMNS, N_ROWS, pair_html, windows_html

IGNORED = -100
"""The target that no loss counts (torch's `ignore_index` default)."""

Coverage = Literal["book", "exact"]
Documents = Literal["stream", "isolated", "packed", "padded"]


@runtime_checkable
class Tokens(Protocol):
    """What windows slide over: a store of tokens."""

    @property
    def n_tokens(self) -> int:
        """How many tokens there are."""
        ...

    @property
    def document_starts(self) -> NDArray[np.int64]:
        """The first token of each document, ascending."""
        ...

    @property
    def fingerprint(self) -> str:
        """Another text has another one."""
        ...

    def read(self, start: int, stop: int) -> NDArray[np.integer]:
        """Give tokens[start:stop], of unsigned or signed integers."""
        ...

    def gather(self, starts: NDArray[np.int64], width: int) -> NDArray[np.integer]:
        """Give the `width` tokens from each start on, (B, width)."""
        ...


class ArrayTokens:
    """An array in memory as a store: one document, unless the starts of several are given.

    Raises:
        UserError: It is not a flat array of integers.
    """

    def __init__(
        self, array: NDArray[np.integer], document_starts: Sequence[int] | None = None
    ) -> None:
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise UserError(
                f"an array of {array.dtype} with shape {array.shape}",
                need="one dimension of integer ids",
            )
        self._array = array
        self.document_starts = np.array([0] if document_starts is None else document_starts)

    @property
    def n_tokens(self) -> int:
        """How many tokens there are."""
        return len(self._array)

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 of the ids, the same in any number format."""
        return sha256_bytes(self._array.astype("<i8").tobytes())

    def read(self, start: int, stop: int) -> NDArray[np.integer]:
        """Give a view."""
        return self._array[start:stop]

    def gather(self, starts: NDArray[np.int64], width: int) -> NDArray[np.integer]:
        """Give a copy of the rows, in one indexing."""
        return gather_rows(self._array, starts, width)


class Windows:
    """Windows over tokens, each found in O(1) time and memory.

    Args:
        tokens: A TokenStore, or ids in memory: an array, a list.
        context_length: T, how many tokens a window shows.
        stride: s, how far it slides; None means T (no overlap).
        coverage: "book" for the rule above; "exact" makes every token after the first a target
            exactly once (other targets are -100), for any stride up to T.
        documents: "stream", "isolated", "packed" or "padded", as above; the last two know neither
            stride nor coverage, and train every task inside a document exactly once.

    Raises:
        UserError: A size is below one, or the text has no window of this size.

    >>> windows = Windows(np.arange(10), context_length=4, stride=4)
    >>> len(windows), *(part.tolist() for part in windows[1])
    (2, [4, 5, 6, 7], [5, 6, 7, 8])
    >>> [windows[i][1].tolist() for windows in [Windows(np.arange(8), 4, coverage="exact")]
    ...  for i in range(len(windows))]
    [[1, 2, 3, 4], [-100, 5, 6, 7]]
    """

    def __init__(
        self,
        tokens: "Tokens | NDArray[np.integer] | Sequence[int]",
        context_length: int,
        stride: int | None = None,
        coverage: Coverage = "book",
        documents: Documents = "stream",
    ) -> None:
        in_memory = isinstance(tokens, (np.ndarray, Sequence))
        self.tokens: Tokens = ArrayTokens(np.asarray(tokens)) if in_memory else tokens  # type: ignore[assignment]
        self.context_length = context_length
        self.stride = context_length if stride is None else stride
        self.coverage, self.documents = coverage, documents
        self.n_tokens = self.tokens.n_tokens
        self.rows: Rows | None = None
        if self.context_length < 1 or self.stride < 1:
            raise UserError(
                f"context_length {self.context_length} and stride {self.stride}",
                need="one or more for each",
                type_this="--context-length 128 --stride 128",
            )
        if documents in ("packed", "padded"):
            if self.stride != context_length or coverage != "book":
                raise UserError(
                    f"documents={documents!r} with stride {self.stride} and coverage={coverage!r}",
                    need="neither: rows of whole documents do not slide, and miss nothing",
                )
            self.rows = Rows(
                self.tokens.document_starts,
                self.n_tokens,
                context_length,
                pack=documents == "packed",
            )
            self._length = len(self.rows)
            return
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
            raise _too_short(self.n_tokens, context_length)

    def __len__(self) -> int:
        """Count the windows of one epoch."""
        return self._length

    @property
    def width(self) -> int:
        """How many inputs a window really has: T, or less when the whole text is shorter."""
        if self.rows is not None:
            return self.context_length
        return min(self.context_length, self.n_tokens - 1)

    def start(self, index: SupportsIndex) -> int:
        """Give the first token of a window that slides.

        Raises:
            IndexError: There is no such window.
        """
        return int(self.starts(np.array([self._place(index)], dtype=np.int64))[0])

    def starts(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the first tokens of windows that slide; indices must be within 0 and len."""
        assert self.rows is None, "a row of documents has no start"
        if self.coverage == "book":
            return indices * self.stride
        return np.minimum(indices * self.stride, self.n_tokens - 1 - self.width)

    def __getitem__(self, index: SupportsIndex) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """Give one window's inputs and targets, (T,) each: views where the store allows.

        Where some targets do not count they are an int64 copy, with -100 in those places.
        """
        place = self._place(index)
        if self.coverage == "book" and self.documents == "stream":
            both = self.tokens.read(place * self.stride, place * self.stride + self.width + 1)
            return both[:-1], both[1:]
        inputs, targets = self.gather(np.array([place], dtype=np.int64))
        return inputs[0], targets[0]

    def gather(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give the inputs and targets of several windows, (B, T) int64 each, in the order asked.

        The two are arrays of their own: changing the inputs in place leaves the targets alone.

        Raises:
            IndexError: There is no such window.
        """
        if self.rows is not None:
            self._check(indices)
            return self._gather_rows(self.rows, indices)
        both = self.gather_both(indices)
        inputs, targets = both[:, :-1].astype(np.int64), both[:, 1:].astype(np.int64)
        ignored = self.ignored(indices)
        if ignored is not None:
            targets[ignored] = IGNORED
        return inputs, targets

    def gather_both(self, indices: NDArray[np.int64]) -> NDArray[np.integer]:
        """Give the T+1 tokens of several sliding windows, (B, T+1), in the store's number format.

        Raises:
            IndexError: There is no such window.
        """
        self._check(indices)
        return self.tokens.gather(self.starts(indices), self.width + 1)

    def ignored(self, indices: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Tell which targets of sliding windows do not count, (B, T); None if all of them do."""
        if self.coverage == "book" and self.documents == "stream":
            return None
        result = np.zeros((len(indices), self.width), dtype=np.bool_)
        if self.coverage == "exact":
            result |= np.arange(self.width) < self.n_counted(indices)[:, None]
        if self.documents == "isolated":
            rows, offsets = starts_inside(
                self.tokens.document_starts, self.starts(indices), self.width + 1
            )
            result[rows, offsets - 1] = True
        return result

    def boundaries(self, indices: NDArray[np.int64]) -> Boundaries:
        """Tell where documents begin in several windows: what isolated attention needs.

        Raises:
            IndexError: There is no such window.
        """
        self._check(indices)
        if self.rows is None:
            starts = self.starts(indices)
            return document_boundaries(self.tokens.document_starts, starts, self.width)
        cuts = []
        for b, index in enumerate(indices.tolist()):
            place = b * self.width
            for _, n_tasks in self.rows.pieces(index):
                cuts.append(place)
                place += n_tasks
            if place < (b + 1) * self.width:
                cuts.append(place)  # the padding
        return from_cuts(np.array(cuts, dtype=np.int64), len(indices), self.width)

    def _repr_html_(self) -> str:
        title = (
            f"{len(self):,} windows of {self.width:,} tokens over {self.n_tokens:,}, "
            f"stride {self.stride:,}, coverage {self.coverage}, documents {self.documents}"
        )
        folder: Path | None = getattr(self.tokens, "folder", None)
        tokenizer_folder = None if folder is None else folder.parent / "tokenizer"
        if self.rows is not None:
            inputs, targets = self[0]
            drawn = pair_html(inputs.tolist(), targets.tolist(), tokenizer_folder)
        else:
            starts = [self.start(i) for i in range(min(N_ROWS, len(self)))]
            n_shown = min(starts[-1] + self.width + 1, 2 * N_COLUMNS)
            drawn = windows_html(
                self.tokens.read(0, n_shown).tolist(), starts, self.width, tokenizer_folder
            )
        return f"<p>{title}</p>{drawn}"

    def _gather_rows(
        self, rows: Rows, indices: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Lay out rows of documents; padding is input 0 and target -100."""
        inputs = np.zeros((len(indices), self.width), dtype=np.int64)
        targets = np.full((len(indices), self.width), IGNORED, dtype=np.int64)
        for b, index in enumerate(indices.tolist()):
            place = 0
            for start, n_tasks in rows.pieces(index):
                both = self.tokens.read(start, start + n_tasks + 1)
                inputs[b, place : place + n_tasks] = both[:-1]
                targets[b, place : place + n_tasks] = both[1:]
                place += n_tasks
        return inputs, targets

    def _place(self, index: SupportsIndex) -> int:
        place = operator.index(index)
        if place < 0:
            place += self._length
        if not 0 <= place < self._length:
            raise IndexError(f"window {operator.index(index)} of {self._length}")
        return place

    def _check(self, indices: NDArray[np.int64]) -> None:
        # As unsigned, a negative index is a huge one.
        if indices.size and indices.view(np.uint64).max() >= self._length:
            raise IndexError(f"windows {indices} of {self._length}")

    def n_counted(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many of a window's first targets the window before it had already."""
        before = np.where(indices > 0, self.starts(np.maximum(indices - 1, 0)) + self.width, 0)
        return np.clip(before - self.starts(indices), 0, self.width)


def _too_short(n_tokens: int, context_length: int) -> UserError:
    if n_tokens < 2:
        return UserError(
            f"the text has {n_tokens} token{'' if n_tokens == 1 else 's'}: nothing to predict",
            need="a longer text",
            type_this="groundup prepare my-longer-text.txt",
        )
    return UserError(
        f"the text has {n_tokens:,} tokens, too few for a window of {context_length:,} inputs "
        "and their targets",
        need=f"a longer text, or a context of at most {n_tokens - 1:,}",
        type_this=f"--context-length {min(256, max(1, n_tokens // 4))}",
    )
