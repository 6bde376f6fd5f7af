"""What loss to expect of a run, before it: by its size, its length, and how hard its text is.

`expected_loss` compares runs on one text. How hard a text is tells its pairs: what a table of which
token follows which, counted in the training text, loses on the held-out one. Where between the two
a run will end is known roughly, so `expected_range` is wide; a run that ends outside is worth a
look.
"""

import math

import numpy as np
from jaxtyping import Int

from groundup.data.store import TokenStore
from groundup.train.data import Data

# The constants of `expected_loss`.
_SIZE, _SIZE_POWER, _TEXT, _TEXT_POWER, _AGAIN = 4e5, 0.25, 6.9e6, 0.3, 15.0
# Shares of the loss of pairs: a middle that rises with `expected_loss`, and so much to either side.
# Drawn by hand around a dozen runs on two texts, one by characters and one by BPE.
_SHARE, _SHARE_RISE, _SHARE_WIDTH = 0.55, 0.09, 0.15
_FIRST_STEPS = 100
"""After so many steps most of the way from knowing nothing is gone."""
_COUNTED_TOKENS = 5_000_000
"""So many are counted: half a second."""
_DISCOUNT = 0.75


def expected_loss(n_parameters: int, n_targets: int, n_train_tokens: int) -> float:
    """The loss to expect, in nats a token, above what no model of any size and time can know.

    Args:
        n_parameters: Parameters of the blocks.
        n_targets: Targets learnt from, each pass counted.
        n_train_tokens: Tokens of the text; seeing one again teaches less than a new one.

    Source: the form from "Training Compute-Optimal Large Language Models", section 3.3, with
        repeated tokens as in "Scaling Data-Constrained Language Models", section 3.1; the constants
        are fitted to runs of 1 to 20 minutes on two texts (docs/experiments.md).
    """
    new = min(n_targets, n_train_tokens)
    again = n_targets / new - 1.0
    worth = new * (1.0 - _AGAIN * math.expm1(-again / _AGAIN))
    by_size, by_text = (_SIZE / n_parameters) ** _SIZE_POWER, (_TEXT / worth) ** _TEXT_POWER
    return float(by_size + by_text)


def expected_range(
    data: Data, n_parameters: int, n_targets: int, n_steps: int
) -> tuple[float, float]:
    """The lowest and highest loss on held-out text to expect at the end, in nats a token.

    Args:
        data: The text.
        n_parameters: Parameters of the blocks.
        n_targets: Targets learnt from, each pass counted.
        n_steps: In so many steps; a few do not bring any model far from knowing nothing.
    """
    above = expected_loss(n_parameters, n_targets, data.train.n_tokens)
    middle = min(1.0, _SHARE + _SHARE_RISE * above)  # a table of pairs is learnt in any case
    pairs = loss_of_pairs(_some(data.train), _some(data.validation), data.tokenizer.vocab_size)
    no_idea = math.log(data.tokenizer.vocab_size)
    low = min(no_idea, (middle - _SHARE_WIDTH) * pairs)
    high = min(no_idea, (middle + _SHARE_WIDTH) * pairs)
    return low, high + (no_idea - high) * math.exp(-n_steps / _FIRST_STEPS)


def loss_of_pairs(train: Int[np.ndarray, " N"], held_out: Int[np.ndarray, " M"], V: int) -> float:
    """Nats a token of a table of which token follows which; unseen pairs fall back on single ones.

    >>> round(loss_of_pairs(np.array([0, 1] * 50), np.array([0, 1, 0, 1]), 2), 2)  # 1 follows 0
    0.01

    Source: absolute discounting, "On Structuring Probabilistic Dependences in Stochastic Language
        Modelling", section 4, with single tokens counted one half too often.
    """
    single = np.bincount(train, minlength=V) + 0.5
    single = single / single.sum()
    pairs, counts = np.unique(train[:-1] * V + train[1:], return_counts=True)
    followers = np.bincount(pairs // V, minlength=V)
    seen = np.bincount(train[:-1], minlength=V)
    before, after = held_out[:-1], held_out[1:]
    place = np.searchsorted(pairs, before * V + after).clip(max=len(pairs) - 1)
    known = np.where(pairs[place] == before * V + after, counts[place] - _DISCOUNT, 0.0)
    left_over = _DISCOUNT * followers[before] * single[after]
    share = (known + left_over) / seen[before].clip(min=1)
    share = np.where(seen[before] > 0, share, single[after])
    return float(-np.log(share).mean())


def _some(store: TokenStore) -> Int[np.ndarray, " N"]:
    return store.read(0, min(store.n_tokens, _COUNTED_TOKENS)).astype(np.int64)
