"""Mixtures: the shares hold at every point, and each text goes round by itself."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.data.loader import Loader
from groundup.data.mixture import Mixture
from groundup.data.windows import Windows

WEIGHTS = st.lists(st.floats(0.01, 1), min_size=1, max_size=5)


def text(first: int, n_windows: int) -> Windows:
    return Windows(np.arange(first, first + n_windows + 1), 1)


@given(weights=WEIGHTS)
def test_shares_are_right_to_within_a_window_at_every_point(weights: list[float]) -> None:
    mixture = Mixture([text(0, 9)] * len(weights), weights)
    source, position = mixture.locate(np.arange(25_000))
    for i, weight in enumerate(mixture.weights):
        counts = np.cumsum(source == i)
        drift = counts - weight * np.arange(1, 25_001)
        assert np.abs(drift).max() < 1 + 25_000 / 10_000, "a block's rounding adds up slowly"
        assert position[source == i].tolist() == list(range(counts[-1]))
    for n in (0, 1, 17, 12_345):
        assert mixture.taken(n).tolist() == [
            int((source[:n] == i).sum()) for i in range(len(weights))
        ]


@given(
    sizes=st.lists(st.integers(2, 9), min_size=2, max_size=3),
    batch_size=st.sampled_from([1, 4, 6]),
    seed=st.integers(0, 3),
    data=st.data(),
)
def test_each_text_goes_round_by_itself(
    sizes: list[int], batch_size: int, seed: int, data: st.DataObject
) -> None:
    weights = data.draw(st.lists(st.integers(1, 5), min_size=len(sizes), max_size=len(sizes)))
    parts = [text(1000 * i, n) for i, n in enumerate(sizes)]
    loader = Loader(Mixture(parts, weights), batch_size, seed=seed)
    stream = torch.cat([next(loader)[0].flatten() for _ in range(60)]).tolist()
    for i, n in enumerate(sizes):
        ours = [token - 1000 * i for token in stream if token // 1000 == i]
        for epoch in range(len(ours) // n):
            assert sorted(ours[epoch * n : (epoch + 1) * n]) == list(range(n))
    state = Loader(Mixture(parts, weights), batch_size, seed=seed).at(7).state_dict()
    resumed = Loader(Mixture(parts, weights), batch_size, seed=seed)
    resumed.load_state_dict(state)
    assert next(resumed)[0].flatten().tolist() == stream[7 * batch_size : 8 * batch_size]


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(UserError, match="weight for each"):
        Mixture([text(0, 5)], [1, 2])
    with pytest.raises(UserError, match="above 0"):
        Mixture([text(0, 5), text(0, 5)], [1, 0])
    with pytest.raises(UserError, match="one context length"):
        Mixture([text(0, 5), Windows(np.arange(9), 2)])
    with pytest.raises(UserError, match="too small"):
        Mixture([text(0, 5), text(0, 5)], [1, 1e-6])
