"""Mixtures: the shares hold at every point, and each text goes round by itself."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.data.batch import make_batch
from groundup.data.loader import Loader
from groundup.data.mixture import Mixture
from groundup.data.protocol import ArrayTokens
from groundup.data.windows import Documents, Windows

WEIGHTS = st.lists(st.floats(0.01, 1), min_size=1, max_size=5)


def text(first: int, n_windows: int) -> Windows:
    return Windows(np.arange(first, first + n_windows + 1), 1)


@settings(max_examples=50)
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


@settings(max_examples=30)
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
    n_batches = 8 + 60 // batch_size
    stream = torch.cat([next(loader)[0].flatten() for _ in range(n_batches)]).tolist()
    for i, n in enumerate(sizes):
        ours = [token - 1000 * i for token in stream if token // 1000 == i]
        for epoch in range(len(ours) // n):
            assert sorted(ours[epoch * n : (epoch + 1) * n]) == list(range(n))
    state = Loader(Mixture(parts, weights), batch_size, seed=seed).at(7).state_dict()
    resumed = Loader(Mixture(parts, weights), batch_size, seed=seed)
    resumed.load_state_dict(state)
    assert next(resumed)[0].flatten().tolist() == stream[7 * batch_size : 8 * batch_size]


@pytest.mark.parametrize("documents", ["isolated", "packed", "padded"])
def test_rows_of_separate_documents_are_those_of_their_text(documents: Documents) -> None:
    tokens = [
        ArrayTokens(np.arange(60), [0, 1, 7, 20, 22, 23, 40]),
        ArrayTokens(np.arange(100, 160), [0, 30, 31, 50]),
    ]
    parts = [Windows(each, 8, documents=documents) for each in tokens]
    loader = Loader(Mixture(parts, [2, 1]), 6, seed=3)
    batch = loader.batch(2)
    assert batch.positions is not None
    assert batch.lengths is not None
    assert batch.cu_seqlens is not None
    first = [place for place, at in enumerate(batch.positions.flatten().tolist()) if at == 0]
    assert batch.cu_seqlens.tolist() == [*first, 6 * 8]
    source, indices = loader._locate(2)
    assert source is not None
    assert set(source.tolist()) == {0, 1}
    for row, (text_number, index) in enumerate(zip(source.tolist(), indices.tolist(), strict=True)):
        alone = make_batch(parts[text_number], np.array([index]))
        assert alone.positions is not None
        assert alone.lengths is not None
        for found, wanted in zip(batch, alone, strict=True):
            assert torch.equal(found[row], wanted[0])
        assert torch.equal(batch.positions[row], alone.positions[0])
        n = alone.lengths.shape[1]
        assert torch.equal(batch.lengths[row, :n], alone.lengths[0])
        assert not batch.lengths[row, n:].any()


def test_what_does_not_fit_together_is_refused() -> None:
    documents = ArrayTokens(np.arange(9), [0, 4])
    with pytest.raises(UserError, match="documents isolated and stream"):
        Mixture([text(0, 5), Windows(documents, 1, documents="isolated")])
    with pytest.raises(UserError, match="weight for each"):
        Mixture([text(0, 5)], [1, 2])
    with pytest.raises(UserError, match="above 0"):
        Mixture([text(0, 5), text(0, 5)], [1, 0])
    with pytest.raises(UserError, match="one context length"):
        Mixture([text(0, 5), Windows(np.arange(9), 2)])
    with pytest.raises(UserError, match="too small"):
        Mixture([text(0, 5), text(0, 5)], [1, 1e-6])
