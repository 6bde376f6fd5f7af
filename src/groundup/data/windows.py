"""Sliding windows: a window of T tokens holds T next-token predictions.

For n tokens, context length T and stride s, the rule of the book gives `max(0, ceil((n - T) / s))`
windows; window i is `inputs = tokens[i*s : i*s+T]`, `targets = tokens[i*s+1 : i*s+T+1]`. Tokens
after the last window are never a target, and with a stride below T the targets in the overlap occur
several times. `coverage="exact"` corrects both: there are as many windows as it takes to reach the
end, the last one is moved back to end with the text, and a target that an earlier window had is
masked.

A window over a stream of documents can contain the end of one document and the beginning of the
next. With `documents="isolated"` the windows are the same, but the document boundaries in them are
reported and the first token of a document is not a target. With "packed" and "padded" each window
is a row of complete documents (`data/packing.py`).
"""

import operator
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, SupportsIndex, get_args

import numpy as np
from numpy.typing import NDArray

from groundup.base.arguments import one_of
from groundup.base.errors import UserError
from groundup.base.targets import IGNORE_INDEX
from groundup.data.boundaries import (
    Boundaries,
    document_boundaries,
    from_cuts,
    most_parts,
    part_lengths,
    starts_inside,
)
from groundup.data.packing import Rows, nothing_to_predict
from groundup.data.protocol import ArrayTokens, Tokens
from groundup.data.show import N_COLUMNS, N_ROWS, pair_html, windows_html

Coverage = Literal["book", "exact"]
Documents = Literal["stream", "isolated", "packed", "padded"]


class Windows:
    """Windows over a sequence of tokens; computing one takes O(1) time and memory.

    Args:
        tokens: A TokenStore, or ids in memory (an array or a list).
        context_length: T, number of input tokens in a window.
        stride: s, distance between the starts of two windows, in tokens. None uses T (no overlap).
        coverage: "book" for the rule above; "exact" makes every token after the first a target
            exactly once (repeated targets are set to -100), for any stride up to T.
        documents: "stream", "isolated", "packed" or "padded", as above. The last two take no
            stride and no coverage; every prediction inside a document occurs exactly once.

    Raises:
        UserError: A size is below 1, `coverage` or `documents` is another name, or the text is too
            short for a window of this size.

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
        one_of("coverage", coverage, get_args(Coverage))
        one_of("documents", documents, get_args(Documents))
        in_memory = isinstance(tokens, (np.ndarray, Sequence))
        self.tokens: Tokens = ArrayTokens(np.asarray(tokens)) if in_memory else tokens  # type: ignore[assignment]
        self.context_length = context_length
        self.stride = context_length if stride is None else stride
        self.coverage, self.documents = coverage, documents
        self.n_tokens = self.tokens.n_tokens
        self.rows: Rows | None = None
        check_sizes(self.context_length, self.stride)
        if documents in ("packed", "padded"):
            if self.stride != context_length or coverage != "book":
                raise UserError(
                    f"documents={documents!r} is combined with stride={self.stride} and "
                    f"coverage={coverage!r}. Packed and padded windows take no stride and no "
                    "coverage.",
                    settings={"stride": None, "coverage": "book"},
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
                f"A stride of {self.stride} skips tokens between windows of {context_length}. "
                "With exact coverage the stride must not exceed the context length.",
                settings={"stride": context_length},
            )
        n_targets = self.n_tokens - 1
        if coverage == "book":  # -(-a // b) is ceil(a / b) in integers: a float would lose bits
            self._length = max(0, -((context_length - self.n_tokens) // self.stride))
        else:
            beyond = max(0, n_targets - context_length)
            self._length = 1 + -(-beyond // self.stride) if n_targets > 0 else 0
        if self._length == 0:
            raise _too_short(self.n_tokens, context_length)
        if documents == "isolated" and not self._any_pair():
            raise nothing_to_predict()

    def __repr__(self) -> str:
        kind = self.coverage if self.documents == "stream" else self.documents
        return (
            f"Windows({len(self):,} of {self.context_length:,} tokens, stride {self.stride:,}, "
            f"{kind}, over {self.n_tokens:,} tokens)"
        )

    def __len__(self) -> int:
        """Return the number of windows in one epoch."""
        return self._length

    @property
    def width(self) -> int:
        """Number of inputs in a window: T, or less when the text is shorter than T."""
        if self.rows is not None:
            return self.context_length
        return min(self.context_length, self.n_tokens - 1)

    def start(self, index: SupportsIndex) -> int:
        """Return the index of the first token of a sliding window.

        Raises:
            IndexError: The index is out of range.
        """
        return int(self.starts(np.array([self._place(index)], dtype=np.int64))[0])

    def starts(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the indices of the first tokens of sliding windows; `indices` must be in range."""
        assert self.rows is None, "a row of documents has no single start"
        if self.coverage == "book":
            return indices * self.stride
        return np.minimum(indices * self.stride, self.n_tokens - 1 - self.width)

    def __getitem__(self, index: SupportsIndex) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """Return one window's inputs and targets, (T,) each, as views where possible.

        Where some targets do not count, both are int64 copies and those targets are -100.
        """
        place = self._place(index)
        if self.coverage == "book" and self.documents == "stream":
            both = self.tokens.read(place * self.stride, place * self.stride + self.width + 1)
            return both[:-1], both[1:]
        inputs, targets = self.gather(np.array([place], dtype=np.int64))
        return inputs[0], targets[0]

    def gather(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the inputs and targets of several windows, (B, T) int64 each, in this order.

        The two arrays share no memory: changing the inputs in place leaves the targets unchanged.

        Raises:
            IndexError: An index is out of range.
        """
        if self.rows is not None:
            self._check(indices)
            return self._gather_rows(self.rows, indices)
        both = self.gather_both(indices)
        inputs, targets = both[:, :-1].astype(np.int64), both[:, 1:].astype(np.int64)
        ignored = self.ignored(indices)
        if ignored is not None:
            targets[ignored] = IGNORE_INDEX
        return inputs, targets

    def gather_both(self, indices: NDArray[np.int64]) -> NDArray[np.integer]:
        """Return the T+1 tokens of several sliding windows, (B, T+1), in the store's type.

        Raises:
            IndexError: An index is out of range.
        """
        self._check(indices)
        return self.tokens.gather(self.starts(indices), self.width + 1)

    def ignored(self, indices: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Return a mask of the targets that do not count, (B, T). None: all of them count."""
        if self.coverage == "book" and self.documents == "stream":
            return None
        result = np.zeros((len(indices), self.width), dtype=np.bool_)
        if self.coverage == "exact":
            result |= np.arange(self.width) < self.n_repeated(indices)[:, None]
        if self.documents == "isolated":
            rows, offsets = starts_inside(
                self.tokens.document_starts, self.starts(indices), self.width + 1
            )
            result[rows, offsets - 1] = True
        return result

    def n_repeated(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many targets at the start of each window the window before it also has."""
        before = np.where(indices > 0, self.starts(np.maximum(indices - 1, 0)) + self.width, 0)
        return np.clip(before - self.starts(indices), 0, self.width)

    def boundaries(self, indices: NDArray[np.int64]) -> Boundaries:
        """Return where documents begin in several windows, for attention within documents.

        Raises:
            IndexError: An index is out of range.
        """
        self._check(indices)
        if self.rows is None:
            starts = self.starts(indices)
            return document_boundaries(self.tokens.document_starts, starts, self.width)
        cuts = []
        for b, index in enumerate(indices.tolist()):
            place = b * self.width
            for _, n_targets in self.rows.pieces(index):
                cuts.append(place)
                place += n_targets
            if place < (b + 1) * self.width:
                cuts.append(place)  # padding is a part of its own: no document attends to it
        return from_cuts(np.array(cuts, dtype=np.int64), len(indices), self.width)

    @cached_property
    def most_documents(self) -> int:
        """Largest number of documents, or parts of them, that a window can hold."""
        if self.documents == "stream":
            return 1
        if self.rows is not None:
            return self.rows.most_pieces
        return most_parts(self.tokens.document_starts, self.width)

    def document_lengths(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many tokens of each document several windows hold, in their order.

        Returns:
            (B, `most_documents`); 0 stands for no document. Padding is left out.

        Raises:
            IndexError: An index is out of range.
        """
        self._check(indices)
        if self.rows is None:
            starts = self.starts(indices)
            table = self.tokens.document_starts
            return part_lengths(table, starts, self.width, self.most_documents)
        result = np.zeros((len(indices), self.most_documents), dtype=np.int64)
        for row, index in zip(result, indices.tolist(), strict=True):
            pieces = self.rows.pieces(index)
            row[: len(pieces)] = [n_targets for _, n_targets in pieces]
        return result

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
        """Assemble rows of documents; padding is input 0 and target -100."""
        inputs = np.zeros((len(indices), self.width), dtype=np.int64)
        targets = np.full((len(indices), self.width), IGNORE_INDEX, dtype=np.int64)
        for b, index in enumerate(indices.tolist()):
            place = 0
            for start, n_targets in rows.pieces(index):
                both = self.tokens.read(start, start + n_targets + 1)
                inputs[b, place : place + n_targets] = both[:-1]
                targets[b, place : place + n_targets] = both[1:]
                place += n_targets
        return inputs, targets

    def _any_pair(self) -> bool:
        """Whether a document has two tokens."""
        starts = self.tokens.document_starts
        if self.n_tokens > len(starts):
            return True
        return bool((np.diff(np.append(starts, self.n_tokens)) > 1).any())  # some are empty

    def _place(self, index: SupportsIndex) -> int:
        place = operator.index(index)
        if place < 0:
            place += self._length
        if not 0 <= place < self._length:
            raise IndexError(f"window {operator.index(index)} is out of range for {self._length}")
        return place

    def _check(self, indices: NDArray[np.int64]) -> None:
        # Read as unsigned, a negative index is huge: one comparison checks both ends.
        if indices.size and indices.view(np.uint64).max() >= self._length:
            raise IndexError(f"windows {indices} are out of range for {self._length}")


def check_sizes(context_length: int, stride: int) -> None:
    """Check that windows can have these sizes, whatever the text.

    Raises:
        UserError: One of them is below 1.
    """
    if context_length < 1 or stride < 1:
        raise UserError(
            f"The context length is {context_length} and the stride is {stride}. Both must be at "
            "least 1.",
            settings={"context_length": 128, "stride": 128},
        )


def _too_short(n_tokens: int, context_length: int) -> UserError:
    if n_tokens < 2:
        return UserError(
            f"The text has {n_tokens} token{'' if n_tokens == 1 else 's'}, so there is nothing to "
            "predict. At least 2 tokens are expected."
        )
    return UserError(
        f"The text has {n_tokens:,} tokens, too few for a window of {context_length:,} inputs "
        f"and their targets. A longer text or a context length of at most {n_tokens - 1:,} is "
        "expected.",
        settings={"context_length": min(256, max(1, n_tokens // 4))},
    )
