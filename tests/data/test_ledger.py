"""The account of an epoch, held against counting target by target."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.data.ledger import account, trained_at_least
from groundup.data.windows import IGNORED, Windows
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
    trained = sum(int((windows[i][1] != IGNORED).sum()) for i in range(len(windows)))
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
