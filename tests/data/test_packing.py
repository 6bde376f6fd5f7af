"""Rows of documents: every task inside a document stands in one row, and rows are well filled."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.base.targets import IGNORE_INDEX
from groundup.data.packing import Rows, best_fit
from groundup.data.protocol import ArrayTokens
from groundup.data.windows import Windows

LENGTHS = st.lists(st.integers(0, 12), min_size=1, max_size=25)


def starts_of(lengths: list[int]) -> np.ndarray:
    return np.cumsum([0, *lengths[:-1]])


@given(lengths=LENGTHS, context_length=st.integers(1, 9), pack=st.booleans())
def test_every_task_stands_in_one_row(lengths: list[int], context_length: int, pack: bool) -> None:
    if max(lengths) < 2:
        with pytest.raises(UserError, match="No document has two tokens"):
            Rows(starts_of(lengths), sum(lengths), context_length, pack=pack)
        return
    rows = Rows(starts_of(lengths), sum(lengths), context_length, pack=pack)
    found = []
    for row in range(len(rows)):
        pieces = rows.pieces(row)
        assert pieces
        assert sum(n for _, n in pieces) <= context_length
        assert pack or len(pieces) == 1
        found += [target for start, n in pieces for target in range(start + 1, start + n + 1)]
    firsts = set(starts_of(lengths).tolist())
    expected = [target for target in range(sum(lengths)) if target not in firsts]
    assert sorted(found) == sorted(expected)
    assert rows.n_targets == len(expected)
    assert rows.n_padding == len(rows) * context_length - len(expected)


def first_fit_decreasing(lengths: list[int], capacity: int) -> int:
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        for i, room in enumerate(rooms):
            if room >= length:
                rooms[i] -= length
                break
        else:
            rooms.append(capacity - length)
    return len(rooms)


def best_fit_decreasing(lengths: list[int], capacity: int) -> list[int]:
    """The rooms left in each row, one piece at a time."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [room for room in rooms if room >= length]
        if fitting:
            rooms.remove(min(fitting))
            rooms.append(min(fitting) - length)
        else:
            rooms.append(capacity - length)
    return sorted(rooms)


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=60), more=st.integers(0, 15))
def test_best_fit_is_best_fit(lengths: list[int], more: int) -> None:
    capacity = max(lengths) + more
    row_of = best_fit(np.array(lengths), capacity)
    filled = np.bincount(row_of, weights=lengths).astype(int)
    assert sorted((capacity - filled).tolist()) == best_fit_decreasing(lengths, capacity)
    assert len(filled) <= first_fit_decreasing(lengths, capacity) + 1


@pytest.mark.parametrize("documents", ["packed", "padded"])
def test_rows_in_windows(documents: str) -> None:
    tokens = ArrayTokens(np.array([10, 11, 12, 20, 21, 30, 31, 32, 33]), [0, 3, 5])
    windows = Windows(tokens, 5, documents=documents)  # type: ignore[arg-type]
    pairs = set()
    for i in range(len(windows)):
        inputs, targets = windows[i]
        assert inputs.shape == targets.shape == (5,)
        pairs |= {
            (x, y)
            for x, y in zip(inputs.tolist(), targets.tolist(), strict=True)
            if y != IGNORE_INDEX
        }
    assert pairs == {(10, 11), (11, 12), (20, 21), (30, 31), (31, 32), (32, 33)}
    assert len(windows) == (2 if documents == "packed" else 3)
    found = windows.boundaries(np.arange(len(windows)))
    assert found.cu_seqlens[-1] == 5 * len(windows)
    assert found.positions[0].tolist() == [0, 1, 0, 1, 2]
