import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.base.copies import RunIndex, hash_runs


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 33))
def test_runs_hash_alike_exactly_where_they_are_equal(values, length):
    hashes = hash_runs(np.array(values, dtype=np.int64), length).tolist()
    runs = [tuple(values[i : i + length]) for i in range(len(values) - length + 1)]
    assert len(hashes) == max(0, len(runs))
    for a, run_a in zip(hashes, runs, strict=True):
        for b, run_b in zip(hashes, runs, strict=True):
            assert (a == b) == (run_a == run_b)


@pytest.mark.parametrize("length", [1, 7, 8, 32])
def test_the_index_finds_each_place_and_no_other(length):
    random = np.random.default_rng(0)
    text = random.integers(0, 50, 5000)
    sample = np.concatenate([random.integers(50, 99, 40), text[1234 : 1234 + length]])
    found = RunIndex(hash_runs(sample, length)).find(hash_runs(text, length))
    wanted = {tuple(sample[i : i + length]) for i in range(len(sample) - length + 1)}
    expected = [i for i in range(len(text) - length + 1) if tuple(text[i : i + length]) in wanted]
    assert found.tolist() == expected
    assert 1234 in expected


def test_nothing_is_found_by_an_empty_index():
    empty = RunIndex(hash_runs(np.arange(3), 8))
    assert empty.find(hash_runs(np.arange(100), 8)).tolist() == []
