"""The window rule, held against lists and loops."""

import re
from inspect import unwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.base.targets import IGNORE_INDEX
from groundup.data.store import TokenStore
from groundup.data.windows import Windows
from groundup.reference.windows import book_windows, exact_windows

SIZES = st.integers(1, 24)


def _pairs(windows: Windows) -> list[tuple[list[int], list[int]]]:
    return [
        (inputs.tolist(), targets.tolist())
        for inputs, targets in (windows[i] for i in range(len(windows)))
    ]


@given(n=st.integers(2, 90), context_length=SIZES, stride=st.integers(1, 40))
def test_book_windows_are_the_reference_s(n: int, context_length: int, stride: int) -> None:
    tokens = [7 * i % 251 for i in range(n)]
    expected = book_windows(tokens, context_length, stride)
    if not expected:
        with pytest.raises(UserError, match="too few for a window"):
            Windows(np.array(tokens), context_length, stride)
        return
    windows = Windows(np.array(tokens), context_length, stride)
    assert len(windows) == max(0, -(-(n - context_length) // stride)) == len(expected)
    assert _pairs(windows) == expected


@given(n=st.integers(2, 90), context_length=SIZES, data=st.data())
def test_exact_windows_have_every_target_once(
    n: int, context_length: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, context_length))
    tokens = list(range(1000, 1000 + n))
    windows = Windows(np.array(tokens), context_length, stride, coverage="exact")
    pairs = _pairs(windows)
    assert pairs == exact_windows(tokens, context_length, stride)
    targets = [target for _, row in pairs for target in row if target != IGNORE_INDEX]
    assert sorted(targets) == tokens[1:]
    for inputs, row in pairs:  # a target is what follows its input, and no window is empty
        assert any(target != IGNORE_INDEX for target in row)
        assert all(t in (IGNORE_INDEX, i + 1) for i, t in zip(inputs, row, strict=True))


@given(
    n=st.integers(2, 90),
    context_length=SIZES,
    stride=SIZES,
    coverage=st.sampled_from(["book", "exact"]),
    data=st.data(),
)
def test_gather_is_indexing(
    n: int, context_length: int, stride: int, coverage: str, data: st.DataObject
) -> None:
    try:
        windows = Windows(np.arange(n), context_length, stride, coverage)  # type: ignore[arg-type]
    except UserError:
        return
    indices = data.draw(st.lists(st.integers(0, len(windows) - 1), max_size=9))
    inputs, targets = windows.gather(np.array(indices, dtype=np.int64))
    assert inputs.dtype == targets.dtype == np.int64
    assert inputs.shape == targets.shape == (len(indices), windows.width)
    pairs = _pairs(windows)
    assert list(zip(inputs.tolist(), targets.tolist(), strict=True)) == [pairs[i] for i in indices]
    inputs[:] = -1  # arrays of their own
    assert not (targets == -1).any()


@settings(max_examples=25, deadline=None)  # each writes and syncs files
@given(n=st.integers(3, 60), context_length=st.integers(1, 8), shard_tokens=st.integers(1, 20))
def test_shards_are_invisible(
    tmp_path_factory: pytest.TempPathFactory, n: int, context_length: int, shard_tokens: int
) -> None:
    if n <= context_length:
        return
    tokens = [3 * i % 97 for i in range(n)]
    store = TokenStore.build(
        tmp_path_factory.mktemp("store") / "train",
        [tokens],
        vocab_size=97,
        tokenizer_fingerprint="none",
        end_of_text=None,
        shard_tokens=shard_tokens,
    )
    windows = Windows(store, context_length, 1)
    assert _pairs(windows) == book_windows(tokens, context_length, 1)
    inputs, targets = windows.gather(np.arange(len(windows)))
    expected = book_windows(tokens, context_length, 1)
    assert list(zip(inputs.tolist(), targets.tolist(), strict=True)) == expected


def test_a_window_of_a_million_and_a_half_tokens_is_a_view() -> None:
    tokens = np.arange(3_000_001, dtype=np.uint32)
    windows = Windows(tokens, 1_500_000)
    inputs, targets = windows[1]
    assert np.shares_memory(inputs, tokens)
    assert np.shares_memory(targets, tokens)
    assert (inputs[0], targets[-1]) == (1_500_000, 3_000_000)


def test_indices_count_from_both_ends_and_stop_there() -> None:
    windows = Windows(np.arange(10), 4, 2)
    assert windows[-1][0].tolist() == windows[len(windows) - 1][0].tolist()
    for index in (len(windows), -len(windows) - 1):
        with pytest.raises(IndexError):
            windows[index]
        with pytest.raises(IndexError):
            windows.gather(np.array([index]))


def test_the_length_needs_no_float() -> None:
    """2**53 + 1 tokens, where a float would lose one."""

    class Endless:
        n_tokens = 2**53 + 1
        fingerprint = ""
        document_starts = np.zeros(1, dtype=np.int64)

        def read(self, start: int, stop: int) -> np.ndarray:
            return np.arange(start, stop)

        def gather(self, starts: np.ndarray, width: int) -> np.ndarray:
            return starts[:, None] + np.arange(width)

    windows = Windows(Endless(), 1, 1)
    assert len(windows) == 2**53
    assert windows[2**53 - 1][1].tolist() == [2**53]
    assert windows.gather(np.array([2**53 - 1]))[1].tolist() == [[2**53]]


def test_errors_say_what_was_found_and_what_to_type() -> None:
    with pytest.raises(
        UserError, match=r"10 tokens.*context length of at most 9.*context_length=2$"
    ):
        Windows(np.arange(10), 16)
    for context_length in (62_227, 10_000_000):
        with pytest.raises(UserError, match=r"context_length=256$"):
            Windows(np.arange(62_227), context_length)
    with pytest.raises(UserError, match=r"context_length=1$"):
        Windows(np.arange(2), 2)
    with pytest.raises(UserError, match="1 token, so there is nothing to predict"):
        Windows(np.arange(1), 4)
    with pytest.raises(UserError, match="0 tokens, so there is nothing to predict"):
        Windows(np.arange(0), 4, coverage="exact")
    with pytest.raises(UserError, match="stride is 0"):
        Windows(np.arange(10), 4, 0)
    with pytest.raises(UserError, match=r"skips tokens.*stride=4$"):
        Windows(np.arange(10), 4, 5, coverage="exact")
    with pytest.raises(UserError, match="one dimension"):
        Windows(np.arange(12).reshape(3, 4), 2)
    # the advice is followed and works
    assert len(Windows(np.arange(10), 9)) == 1
    assert len(Windows([1, 2, 3, 4, 5], 4)) == 1


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"coverage": "exactly"}, "coverage is 'exactly'. 'book' or 'exact' is expected."),
        (
            {"documents": "pack"},
            "documents is 'pack'. 'stream', 'isolated', 'packed' or 'padded' is expected.",
        ),
    ],
)
def test_an_unknown_name_is_refused(wrong: dict[str, str], expected: str) -> None:
    make = unwrap(Windows.__init__)  # without the type checker of the tests
    with pytest.raises(UserError, match=re.escape(expected)):
        make(object.__new__(Windows), np.arange(9), 4, **wrong)
