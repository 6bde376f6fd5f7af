"""What a reader may rely on: no window before the first, batches made ahead, own orders."""

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from groundup.data.loader import Loader
from groundup.data.mixture import Mixture
from groundup.data.windows import ArrayTokens, Windows


@pytest.mark.parametrize("documents", ["stream", "isolated", "packed"])
@pytest.mark.parametrize("index", [-1, 5])
def test_there_is_no_window_before_the_first_or_after_the_last(documents, index: int) -> None:
    tokens = ArrayTokens(np.arange(21), [0, 5, 10, 15])
    windows = Windows(tokens, 4, documents=documents)
    assert len(windows) == 5
    with pytest.raises(IndexError, match=f"{index}"):
        windows.gather(np.array([0, index], dtype=np.int64))


class Recorded(ArrayTokens):
    """Tokens that remember how often rows were asked of them."""

    n_gathered = 0

    def gather(self, starts: NDArray[np.int64], width: int) -> NDArray[np.integer]:
        self.n_gathered += 1
        return super().gather(starts, width)


@pytest.mark.parametrize("n_ahead", [1, 3])
def test_that_many_batches_are_made_before_they_are_asked_for(n_ahead: int) -> None:
    tokens = Recorded(np.arange(200), [0, 100])
    loader = Loader(Windows(tokens, 4, documents="isolated"), 2, n_ahead=n_ahead)
    next(loader)
    for _ in range(1000):
        if tokens.n_gathered > n_ahead:
            break
        time.sleep(0.01)
    loader.close()
    assert tokens.n_gathered == 1 + n_ahead


def test_texts_of_equal_length_have_orders_of_their_own() -> None:
    first, second = (Windows(np.arange(n, n + 41), 1) for n in (0, 1000))
    loader = Loader(Mixture([first, second]), 80, seed=3)
    tokens = loader.batch(0)[0][:, 0].numpy()
    assert sorted(tokens % 1000) == sorted([*range(40), *range(40)])
    assert tokens[tokens < 1000].tolist() != (tokens[tokens >= 1000] - 1000).tolist()
