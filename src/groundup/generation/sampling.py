"""Sample the next token from logits, with temperature, top-k, top-p and min-p."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from groundup.base.errors import UserError

GREEDY_BELOW = 1e-5
"""A lower temperature counts as 0: dividing by it would leave only rounding errors."""
_CANDIDATES = (1e-2, 1e-4, 0.0)
"""Probabilities, as shares of the largest one, from which on top-p sorts the tokens."""


def check_sampling(
    temperature: float | int,
    top_k: int | None,
    top_p: float | int | None,
    min_p: float | int | None = None,
) -> None:
    """Check the ranges of the sampling settings.

    Raises:
        UserError: temperature is below 0, top_k below 1, top_p outside (0, 1], or min_p outside
            [0, 1].
    """
    if not 0.0 <= temperature < float("inf"):
        raise UserError(
            f"temperature is {temperature}. Expected a positive number, or 0 for always the most "
            "likely token.",
            settings={"temperature": 0.8},
        )
    if top_k is not None and top_k < 1:
        raise UserError(f"top_k is {top_k}. Expected at least 1.", settings={"top_k": 50})
    if top_p is not None and not 0.0 < top_p <= 1.0:
        raise UserError(
            f"top_p is {top_p}. Expected a number above 0 and at most 1.", settings={"top_p": 0.9}
        )
    if min_p is not None and not 0.0 <= min_p <= 1.0:
        raise UserError(
            f"min_p is {min_p}. Expected a number from 0 to 1.", settings={"min_p": 0.05}
        )


def most_likely(logits: Float[Tensor, "V"]) -> int:
    """Return the id with the largest logit; of equal ones the smallest id.

    Raises:
        UserError: No logit is finite, or one is NaN.
    """
    best = int(logits.argmax())
    if not math.isfinite(float(logits[best])):
        raise _nothing_to_draw(float(logits[best]))
    return best


def next_token_probabilities(
    logits: Float[Tensor, "V"],
    *,
    temperature: float | int = 1.0,
    top_k: int | None = None,
    top_p: float | int | None = None,
    min_p: float | int | None = None,
) -> Float[Tensor, "V"]:
    """Compute the distribution that the next token is sampled from.

    First the logits are divided by the temperature (0 puts all probability on the most likely
    token). Then only the top_k most likely tokens are kept, then only the smallest set of most
    likely tokens with a total probability of at least top_p, then only tokens with at least min_p
    times the probability of the most likely one. Of equally likely tokens, those with the smallest
    ids are kept.

    >>> logits = torch.tensor([0.5, 0.3, 0.2]).log()
    >>> [round(p, 3) for p in next_token_probabilities(logits, top_p=0.6).tolist()]
    [0.625, 0.375, 0.0]
    >>> next_token_probabilities(logits, min_p=0.5).bool().tolist()
    [True, True, False]
    >>> next_token_probabilities(logits, temperature=0).tolist()
    [1.0, 0.0, 0.0]

    Raises:
        UserError: A setting is out of range, see `check_sampling`; or no logit is finite.

    Source: top-p is nucleus sampling, "The Curious Case of Neural Text Degeneration", section 3.1;
        min-p is "Turning Up the Heat: Min-p Sampling for Creative and Coherent LLM Outputs".
    """
    check_sampling(temperature, top_k, top_p, min_p)
    logits = logits.float()
    if temperature < GREEDY_BELOW:
        greedy = torch.zeros_like(logits)
        greedy[most_likely(logits)] = 1.0
        return greedy
    largest = logits.max()
    if not math.isfinite(float(largest)):
        raise _nothing_to_draw(float(largest))
    # Subtract the largest logit first, so that a small temperature cannot overflow.
    scaled = (logits - largest) / temperature
    if top_k is not None and top_k < len(scaled):
        scaled = scaled.masked_fill(~_is_among_best(scaled, top_k), float("-inf"))
    probabilities = scaled.softmax(dim=0)
    if top_p is not None and top_p < 1.0:
        probabilities = _nucleus(probabilities, top_p)
    if min_p:
        least = min_p * probabilities.max()
        probabilities = probabilities.masked_fill(probabilities < least, 0.0)
        probabilities = probabilities / probabilities.sum()
    return probabilities


def draw(probabilities: Float[Tensor, "V"], generator: torch.Generator) -> int:
    """Sample one token id: the first one whose cumulative probability exceeds a random number.

    This takes one random number; `torch.multinomial` takes one for each token of the vocabulary.
    The sums are in float64, so that no token of probability 0 is drawn, not even after the last
    likely one.
    """
    cumulative = probabilities.cumsum(dim=0, dtype=torch.float64)  # (V,)
    number = torch.rand((), dtype=torch.float64, generator=generator) * cumulative[-1]
    return int(torch.searchsorted(cumulative, number, right=True))


def _is_among_best(values: Tensor, k: int) -> Tensor:
    """Whether each value is among the k largest."""
    least = values.topk(k).values[-1]
    kept = values >= least
    n_too_many = int(kept.sum()) - k
    if n_too_many > 0:
        equal = (values == least).nonzero()[:, 0]
        kept[equal[len(equal) - n_too_many :]] = False
    return kept


def _nucleus(probabilities: Tensor, top_p: float | int) -> Tensor:
    """Keep the smallest set of most likely tokens with a total probability of at least top_p."""
    largest = probabilities.max()
    ordered = order = total = probabilities
    for share in _CANDIDATES:  # sorting the whole vocabulary takes longer than a small model
        candidates = (probabilities >= share * largest).nonzero()[:, 0]
        ordered, places = probabilities[candidates].sort(descending=True, stable=True)
        order, total = candidates[places], ordered.cumsum(dim=0)
        if total[-1] >= top_p:
            break
    is_kept = total - ordered < top_p  # the more likely ones do not reach top_p
    is_kept[0] = True  # also where top_p is 0 in single precision
    kept = ordered * is_kept
    return torch.zeros_like(probabilities).scatter(0, order, kept / kept.sum())


def _nothing_to_draw(largest: float) -> UserError:
    if largest == float("-inf"):
        return UserError("No token can be generated: the settings exclude every token.")
    return UserError(
        f"The largest logit is {largest}, so no token can be sampled. The weights of the model are "
        "NaN or too large."
    )
