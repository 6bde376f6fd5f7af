"""Whether a model copies: the loss of a passage that it reads for the second time, by distance.

A passage of the validation set stands twice in a text, as many tokens apart as the distance. The
same text with another passage in the first place tells how well the second one is predicted
without having been read, so the gain is that of the first reading alone.
"""

import logging
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from groundup.data.protocol import Tokens
from groundup.evaluation.paired import Difference, paired_bootstrap
from groundup.evaluation.reading import read_to_the_end
from groundup.generation.decoder import Decoder

_log = logging.getLogger(__name__)

_N_TARGETS, _BLOCK, _NEAREST = 2048, 64, 64


@dataclass(frozen=True, kw_only=True)
class CopyLoss:
    """Passages that stand twice in a text, at one distance."""

    distance: int
    """Tokens between the starts of the two readings."""
    first_nats: float
    """Mean loss of the passage in the same place without an earlier reading."""
    second_nats: float
    """Mean loss at the second reading."""
    gain: Difference
    """The first minus the second, in nats/token."""


def copy_losses(decoder: Decoder, tokens: Tokens, longest: int) -> tuple[CopyLoss, ...]:
    """Compute the loss of passages at their second reading, at distances of 64, 128, ... tokens.

    Args:
        decoder: Computes the logits.
        tokens: The text that passages are taken from.
        longest: Most tokens that the model reads.
    """
    found = []
    distance = _NEAREST
    while distance + passage_tokens(distance) <= min(longest, tokens.n_tokens // 2):
        _log.info("second reading after %d tokens", distance)
        found.append(_at_distance(decoder, tokens, distance))
        distance *= 2
    return tuple(found)


def passage_tokens(distance: int) -> int:
    """Choose the length of a passage: as long as the distance, and at most 2,048 tokens.

    >>> passage_tokens(64), passage_tokens(8192)
    (64, 2048)
    """
    return min(distance, _N_TARGETS)


def _at_distance(decoder: Decoder, tokens: Tokens, distance: int) -> CopyLoss:
    n = passage_tokens(distance)
    half = tokens.n_tokens // 2
    starts = np.linspace(0, half - distance, _N_TARGETS // n).astype(int).tolist()
    first, second = [], []
    for start in starts:
        text = tokens.read(start, start + distance).tolist()
        passage, other = text[:n], tokens.read(half + start, half + start + n).tolist()
        second.append(read_to_the_end(decoder, text + passage, n).nats)
        first.append(read_to_the_end(decoder, other + text[n:] + passage, n).nats)
    without, again = _block_means(first), _block_means(second)
    return CopyLoss(
        distance=distance,
        first_nats=float(without.mean()),
        second_nats=float(again.mean()),
        gain=paired_bootstrap(without, again),
    )


def _block_means(parts: list[Float[np.ndarray, " n"]]) -> Float[np.ndarray, " b"]:
    means: Float[np.ndarray, " b"] = np.concatenate(parts).reshape(-1, _BLOCK).mean(axis=1)
    return means
