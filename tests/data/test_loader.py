"""The loader: the k-th batch depends on (seed, k) alone, each epoch holds each window once."""

from inspect import unwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.data.loader import Loader
from groundup.data.store import TokenStore
from groundup.data.windows import Windows

SHAPES = {"n": st.integers(2, 60), "batch_size": st.integers(1, 70), "seed": st.integers(0, 9)}


def _loader(n: int, batch_size: int, seed: int, **options: object) -> Loader:
    """A loader whose n windows are their own indices: one token, its number."""
    return Loader(Windows(np.arange(n + 1), 1), batch_size, seed=seed, **options)  # type: ignore[arg-type]


@given(**SHAPES)
def test_each_epoch_holds_each_window_once(n: int, batch_size: int, seed: int) -> None:
    loader = _loader(n, batch_size, seed)
    n_batches = -(-3 * n // batch_size)
    stream = torch.cat([next(loader)[0].flatten() for _ in range(n_batches)]).tolist()
    epochs = [stream[e * n : (e + 1) * n] for e in range(3)]
    assert all(sorted(epoch) == list(range(n)) for epoch in epochs)
    if n > 12:  # three equal orders of 13 windows have odds of one in 10**9
        assert len({tuple(epoch) for epoch in epochs}) == 3


@given(k=st.integers(0, 12), n_more=st.integers(1, 5), **SHAPES)
def test_it_resumes_anywhere(k: int, n_more: int, n: int, batch_size: int, seed: int) -> None:
    undisturbed = _loader(n, batch_size, seed)
    for _ in range(k):
        next(undisturbed)
    state = undisturbed.state_dict()
    resumed = _loader(n, batch_size, seed)
    resumed.load_state_dict(state)
    for i in range(n_more):
        for ours, theirs in zip(next(resumed), next(undisturbed), strict=True):
            assert torch.equal(ours, theirs)
        assert torch.equal(_loader(n, batch_size, seed).batch(k + i)[0], resumed.batch(k + i)[0])


def test_a_batch_at_step_a_billion_comes_from_its_place() -> None:
    loader = _loader(10, 4, 0).at(10**9)
    inputs, _ = next(loader)
    assert loader.state_dict()["next_batch"] == 10**9 + 1
    assert torch.equal(inputs, loader.batch(10**9)[0])


def test_sequential_order_is_the_text_s() -> None:
    loader = _loader(5, 2, 0, order="sequential")
    assert [next(loader)[0].flatten().tolist() for _ in range(4)] == [
        [0, 1],
        [2, 3],
        [4, 0],
        [1, 2],
    ]


def test_batches_are_int64_pairs_shifted_by_one() -> None:
    tokens = np.arange(1000, dtype=np.uint16)
    inputs, targets = next(Loader(Windows(tokens, 16), 8))
    assert inputs.shape == targets.shape == (8, 16)
    assert inputs.dtype == targets.dtype == torch.int64
    assert inputs.data_ptr() + 8 == targets.data_ptr(), "two views of one buffer: nothing is copied"
    assert torch.equal(inputs + 1, targets)


def test_another_seed_gives_another_order() -> None:
    assert not torch.equal(_loader(50, 50, 0).batch(0)[0], _loader(50, 50, 1).batch(0)[0])


def test_how_many_batches_an_epoch_takes() -> None:
    assert _loader(10, 4, 0).n_batches_per_epoch == 2.5


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"batch_size": 3}, "batch_size"),
        ({"seed": 1}, "seed"),
        ({"order": "sequential"}, "order"),
        ({"context_length": 5}, "context_length"),
        ({"stride": 2}, "stride"),
        ({"coverage": "exact"}, "coverage"),
        ({"tokens": np.arange(1, 101)}, "fingerprint"),
    ],
)
def test_a_position_in_something_else_is_refused(change: dict[str, object], named: str) -> None:
    def make(options: dict[str, object]) -> Loader:
        given_ = {
            "tokens": np.arange(100),
            "context_length": 4,
            "stride": 4,
            "coverage": "book",
            "batch_size": 2,
            "seed": 0,
            "order": "permuted",
            **options,
        }
        names = ("tokens", "context_length", "stride", "coverage")
        windows = Windows(*(given_.pop(name) for name in names))  # type: ignore[arg-type]
        return Loader(windows, **given_)  # type: ignore[arg-type]

    state = make({}).state_dict()
    make({}).load_state_dict(state)
    with pytest.raises(UserError, match=f"saved position has (n_windows|{named})"):
        make(change).load_state_dict(state)


def test_a_changed_store_is_refused(tmp_path: Path) -> None:
    def store(name: str, ids: list[int]) -> TokenStore:
        return TokenStore.build(
            tmp_path / name, [ids], vocab_size=9, tokenizer_fingerprint="t", end_of_text=None
        )

    state = Loader(Windows(store("a", [1, 2, 3, 4]), 2), 1).state_dict()
    with pytest.raises(UserError, match="fingerprint"):
        Loader(Windows(store("b", [1, 2, 3, 5]), 2), 1).load_state_dict(state)


def test_bad_values_are_refused() -> None:
    with pytest.raises(UserError, match="batch size is 0"):
        _loader(5, 0, 0)
    loader = _loader(5, 1, 0)
    for wrong in (-1, "three", None):
        with pytest.raises(UserError, match="saved position"):
            loader.load_state_dict({**loader.state_dict(), "next_batch": wrong})


def test_an_unknown_order_is_refused() -> None:
    make = unwrap(Loader.__init__)  # without the type checker of the tests
    with pytest.raises(UserError, match=r"^order is 'shuffled'\. 'permuted', .* or 'torch' is exp"):
        make(object.__new__(Loader), Windows(np.arange(9), 4), 2, order="shuffled")
