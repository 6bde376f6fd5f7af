"""The account of an epoch, held against counting target by target."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.base.targets import IGNORE_INDEX
from groundup.data.config import LedgerConfig
from groundup.data.ledger import account, ledger, trained_at_least
from groundup.data.store import TokenStore
from groundup.data.windows import Windows
from groundup.reference.windows import epoch_batches, times_trained


@given(
    n=st.integers(2, 120),
    context_length=st.integers(1, 20),
    stride=st.integers(1, 30),
    batch_size=st.integers(1, 9),
)
def test_every_count_is_the_one_counted_by_hand(
    n: int, context_length: int, stride: int, batch_size: int
) -> None:
    try:
        windows = Windows(np.arange(n), context_length, stride)
    except UserError:
        return
    ledger = account(windows, batch_size)
    times = times_trained(n, context_length, stride)[1:]
    last = max(i for i, count in enumerate(times) if count)
    assert ledger.n_targets == n - 1 == len(times)
    assert ledger.n_targets_once == times.count(1)
    assert ledger.n_targets_repeated == sum(count > 1 for count in times)
    assert ledger.n_targets_gap == times[:last].count(0)
    assert ledger.n_targets_tail == len(times) - 1 - last
    assert ledger.most_often == max(times)
    assert ledger.n_trainings == sum(times)
    for k in range(1, max(times) + 2):
        assert trained_at_least(windows, k) == sum(count >= k for count in times)
    batches = epoch_batches(range(len(windows)), batch_size, drop_last=True)
    kept = [index for batch in batches for index in batch]
    assert ledger.n_full_batches == len(batches)
    assert ledger.n_windows_drop_last == len(windows) - len(kept)
    trained = sum(len(windows[i][1]) for i in kept)
    assert ledger.n_trainings_drop_last == ledger.n_trainings - trained


@given(n=st.integers(2, 120), context_length=st.integers(1, 20), data=st.data())
def test_exact_coverage_trains_everything_once(
    n: int, context_length: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, context_length))
    windows = Windows(np.arange(n), context_length, stride, coverage="exact")
    ledger = account(windows, 4)
    trained = sum(int((windows[i][1] != IGNORE_INDEX).sum()) for i in range(len(windows)))
    assert ledger.n_targets_once == ledger.n_targets == ledger.n_trainings == trained == n - 1
    assert ledger.n_targets_repeated == ledger.n_targets_gap == ledger.n_targets_tail == 0
    assert ledger.most_often == 1


def test_the_verdict_at_the_book_s_settings() -> None:
    """5,145 tokens at context 256, stride 128: the tail and the overlap the book does not name."""
    ledger = account(Windows(np.zeros(5145, dtype=np.uint16), 256, 128), batch_size=4)
    assert ledger.n_targets_tail == 5144 - (38 * 128 + 256) == 24
    assert ledger.n_targets_once == 256
    assert ledger.n_targets_repeated == 38 * 128
    assert (ledger.n_full_batches, ledger.n_windows_drop_last) == (9, 3)


def test_the_columns_are_accounts_of_the_store(data: Path) -> None:
    result = ledger(LedgerConfig(data=data, context_length=16, stride=12, batch_size=4))
    store = TokenStore.open(data / "train")
    assert list(result.columns) == ["book's loader", "exact", "isolated", "packed", "padded"]
    assert result.left_out == {}
    for name, windows in (
        ("book's loader", Windows(store, 16, 12)),
        ("exact", Windows(store, 16, 12, "exact")),
        ("isolated", Windows(store, 16, 12, "exact", "isolated")),
        ("packed", Windows(store, 16, documents="packed")),
        ("padded", Windows(store, 16, documents="padded")),
    ):
        assert result.columns[name].n_windows == len(windows)
        assert result.columns[name].ledger == account(windows, 4)
    assert ledger(LedgerConfig(data=data / "train")).n_tokens == result.n_tokens == store.n_tokens


def test_a_context_that_does_not_fit_leaves_out_the_book_s_windows(data: Path) -> None:
    result = ledger(LedgerConfig(data=data, context_length=10_000))
    assert list(result.columns) == ["exact", "isolated", "packed", "padded"]
    assert "too few for a window of 10,000" in result.left_out["book's loader"]
    for context_length, stride in ((0, 1), (1, 0)):
        with pytest.raises(UserError, match=r"Both must be at least 1.*context_length=128"):
            Windows(np.zeros(9, dtype=np.uint16), context_length, stride)
    with pytest.raises(UserError, match="batch size is 0"):
        account(Windows(np.zeros(9, dtype=np.uint16), 4, 4), batch_size=0)
    for name in ("context_length", "stride", "batch_size"):
        with pytest.raises(UserError, match=f"{name} is 0. A whole number of at least 1"):
            LedgerConfig(data=data, **{name: 0})
