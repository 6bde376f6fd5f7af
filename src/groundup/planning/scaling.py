"""The loss to expect of a run: from its size, its length and the difficulty of its text.

`expected_loss` compares runs on one text. The difficulty of a text is measured by a bigram model:
its loss on the validation set, with counts from the training set. The final loss of a run is known
only roughly from both, so `expected_range` is wide. Check a run that ends outside it.
"""

import math

import numpy as np
from jaxtyping import Int

from groundup.data.store import TokenStore
from groundup.train.data import Data

# The constants of `expected_loss`.
_SIZE, _SIZE_POWER, _TEXT, _TEXT_POWER, _AGAIN = 4e5, 0.25, 6.9e6, 0.3, 15.0
_VOCABULARY, _VOCABULARY_POWER = 100, 0.1
# The expected loss as a fraction of the bigram loss: a middle that rises with `expected_loss`, and
# a width to either side. Set by eye around a dozen runs on two texts (characters and BPE).
_SHARE, _SHARE_RISE, _SHARE_WIDTH = 0.55, 0.09, 0.15
_FIRST_STEPS = 100
"""Time constant, in steps, of the drop from the uniform baseline."""
_COUNTED_TOKENS = 5_000_000
"""Limit of tokens for the bigram counts, which take half a second."""
_DISCOUNT = 0.75


def expected_loss(
    n_parameters: int, n_targets: int, n_train_tokens: int, vocab_size: int = _VOCABULARY
) -> float:
    """The loss to expect, in nats/token above the limit for any model size and training time.

    Args:
        n_parameters: Parameters of the blocks.
        n_targets: Number of targets over all passes.
        n_train_tokens: Tokens of the text. Repeated tokens teach less than new ones.
        vocab_size: Of a larger vocabulary each token is seen less often, so the number of targets
            weighs more beside the size.

    Source: the form from "Training Compute-Optimal Large Language Models", section 3.3, with
        repeated tokens as in "Scaling Data-Constrained Language Models", section 3.1; the constants
        are fitted to runs of 1 to 20 minutes on two texts (docs/experiments.md).
    """
    new = min(n_targets, n_train_tokens)
    again = n_targets / new - 1.0
    worth = new * (1.0 - _AGAIN * math.expm1(-again / _AGAIN))
    by_size, by_text = (_SIZE / n_parameters) ** _SIZE_POWER, (_TEXT / worth) ** _TEXT_POWER
    return float(by_size + (vocab_size / _VOCABULARY) ** _VOCABULARY_POWER * by_text)


def expected_range(
    data: Data, n_parameters: int, n_targets: int, n_steps: int
) -> tuple[float, float]:
    """The lowest and highest validation loss to expect at the end, in nats/token.

    Args:
        data: The text.
        n_parameters: Parameters of the blocks.
        n_targets: Number of targets over all passes.
        n_steps: Number of steps. After few steps any model is near the uniform baseline.
    """
    above = expected_loss(n_parameters, n_targets, data.n_train_tokens)
    middle = min(1.0, _SHARE + _SHARE_RISE * above)  # any model learns bigrams
    bigram = sum(
        text.weight
        * bigram_loss(_some(text.train), _some(text.validation), text.tokenizer.vocab_size)
        for text in data.texts
    )
    uniform = math.log(data.tokenizer.vocab_size)
    low = min(uniform, (middle - _SHARE_WIDTH) * bigram)
    high = min(uniform, (middle + _SHARE_WIDTH) * bigram)
    return low, high + (uniform - high) * math.exp(-n_steps / _FIRST_STEPS)


def bigram_loss(train: Int[np.ndarray, " N"], validation: Int[np.ndarray, " M"], V: int) -> float:
    """Loss of a bigram model in nats/token, with a unigram model for unseen pairs.

    >>> round(bigram_loss(np.array([0, 1] * 50), np.array([0, 1, 0, 1]), 2), 2)  # 1 follows 0
    0.01

    Source: absolute discounting, "On Structuring Probabilistic Dependences in Stochastic Language
        Modelling", section 4, with one half added to the unigram counts.
    """
    single = np.bincount(train, minlength=V) + 0.5
    single = single / single.sum()
    pairs, counts = np.unique(train[:-1] * V + train[1:], return_counts=True)
    followers = np.bincount(pairs // V, minlength=V)
    seen = np.bincount(train[:-1], minlength=V)
    before, after = validation[:-1], validation[1:]
    place = np.searchsorted(pairs, before * V + after).clip(max=len(pairs) - 1)
    known = np.where(pairs[place] == before * V + after, counts[place] - _DISCOUNT, 0.0)
    left_over = _DISCOUNT * followers[before] * single[after]
    share = (known + left_over) / seen[before].clip(min=1)
    share = np.where(seen[before] > 0, share, single[after])
    return float(-np.log(share).mean())


def _some(store: TokenStore) -> Int[np.ndarray, " N"]:
    return store.read(0, min(store.n_tokens, _COUNTED_TOKENS)).astype(np.int64)
