"""Documents as rows of a batch: one document per row (padded), or as many as fit (packed).

A document of n tokens holds n-1 next-token predictions. A longer one than T is cut into pieces of T
predictions; each piece begins with the last target of the piece before, so no prediction is lost.
Packing places the longest pieces first, each in the fullest row that still has room ("best fit
decreasing", Johnson, 1974). Pieces of equal length are placed together, so planning costs little
more than a sort.
"""

from bisect import bisect_left, insort

import numpy as np
from numpy.typing import NDArray

from groundup.base.errors import UserError


class Rows:
    """Assignment of document pieces to rows; memory grows with the number of pieces.

    Args:
        document_starts: Index of the first token of each document, ascending.
        n_tokens: Number of tokens in all documents.
        context_length: T, number of predictions in a row.
        pack: Put several pieces in a row. False puts one piece in a row.

    Raises:
        UserError: No document has two tokens.

    >>> rows = Rows(np.array([0, 3, 5, 9]), 12, context_length=3, pack=True)
    >>> [rows.pieces(i) for i in range(len(rows))]
    [[(5, 3)], [(0, 2), (3, 1)], [(9, 2)]]
    >>> rows.n_targets, rows.n_padding
    (8, 1)
    """

    def __init__(
        self,
        document_starts: NDArray[np.int64],
        n_tokens: int,
        context_length: int,
        *,
        pack: bool,
    ) -> None:
        self._starts, self._lengths = cut_into_pieces(document_starts, n_tokens, context_length)
        if not len(self._starts):
            raise nothing_to_predict()
        self.context_length = context_length
        row_of = best_fit(self._lengths, context_length) if pack else np.arange(len(self._lengths))
        self._order = np.argsort(row_of, kind="stable")
        n_rows = int(row_of.max()) + 1
        self._first = np.searchsorted(row_of[self._order], np.arange(n_rows + 1))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._first) - 1

    def pieces(self, row: int) -> list[tuple[int, int]]:
        """Return (first token, number of targets) of each piece in a row."""
        here = self._order[self._first[row] : self._first[row + 1]]
        return list(zip(self._starts[here].tolist(), self._lengths[here].tolist(), strict=True))

    @property
    def most_pieces(self) -> int:
        """Largest number of pieces in a row."""
        return int(np.diff(self._first).max())

    @property
    def n_targets(self) -> int:
        """Number of targets in the rows: every token that is not the first of its document."""
        return int(self._lengths.sum())

    @property
    def n_padding(self) -> int:
        """Number of positions that hold padding."""
        return len(self) * self.context_length - self.n_targets


def nothing_to_predict() -> UserError:
    """Return the error for separate documents that are all shorter than two tokens."""
    return UserError(
        "No document has two tokens, so there is nothing to predict inside a document. Longer "
        "documents are expected.",
        settings={"documents": "stream"},
    )


def cut_into_pieces(
    document_starts: NDArray[np.int64], n_tokens: int, context_length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut documents into pieces of at most T targets; return their first tokens and lengths."""
    n_targets = np.maximum(np.diff(np.append(document_starts, n_tokens)) - 1, 0)
    n_pieces = -(-n_targets // context_length)
    document = np.repeat(np.arange(len(n_targets)), n_pieces)
    nth = np.arange(len(document)) - np.repeat(np.cumsum(n_pieces) - n_pieces, n_pieces)
    offsets = nth * context_length
    starts = np.asarray(document_starts)[document] + offsets
    return starts, np.minimum(n_targets[document] - offsets, context_length)


def best_fit(lengths: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
    """Return the row of each piece by best fit decreasing; no piece may exceed the capacity.

    >>> best_fit(np.array([2, 3, 1, 2]), capacity=4).tolist()
    [1, 0, 0, 1]
    """
    row_of = np.empty(len(lengths), dtype=np.int64)
    n_rows = 0
    open_rows: dict[int, list[NDArray[np.int64]]] = {}
    rooms: list[int] = []  # the keys of open_rows, ascending

    def leave_open(rows: NDArray[np.int64], room: int) -> None:
        if len(rows) and room > 0:
            if room not in open_rows:
                open_rows[room] = []
                insort(rooms, room)
            open_rows[room].append(rows)

    by_length = np.argsort(-lengths, kind="stable")
    for rest in np.split(by_length, np.flatnonzero(np.diff(lengths[by_length])) + 1):
        # All pieces of one length: fill the fullest rows that fit, then open new ones.
        while len(rest):
            length = int(lengths[rest[0]])
            at = bisect_left(rooms, length)
            if at < len(rooms):
                room = rooms.pop(at)
                rows = np.concatenate(open_rows.pop(room))
            else:
                room = capacity
                rows = np.arange(n_rows, n_rows - (-len(rest) // (capacity // length)))
                n_rows += len(rows)
            per_row = room // length
            n_used = min(len(rows), -(-len(rest) // per_row))
            placed, rest = rest[: n_used * per_row], rest[n_used * per_row :]
            row_of[placed] = rows[np.arange(len(placed)) // per_row]
            n_in_last = len(placed) - (n_used - 1) * per_row
            leave_open(rows[: n_used - 1], room - per_row * length)
            leave_open(rows[n_used - 1 : n_used], room - n_in_last * length)
            leave_open(rows[n_used:], room)
    return row_of
