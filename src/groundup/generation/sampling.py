"""Sample the next token from logits, with temperature, top-k and top-p."""

import torch
from jaxtyping import Float
from torch import Tensor

from groundup.base.errors import UserError


def check_sampling(temperature: float | int, top_k: int | None, top_p: float | None) -> None:
    """Check the ranges of the sampling settings.

    Raises:
        UserError: temperature is below 0, top_k below 1, or top_p outside (0, 1].
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


def next_token_probabilities(
    logits: Float[Tensor, "V"],
    *,
    temperature: float | int = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Float[Tensor, "V"]:
    """Compute the distribution that the next token is sampled from.

    First the logits are divided by the temperature (0 puts all probability on the most likely
    token). Then only the top_k most likely tokens are kept, then only the smallest set of most
    likely tokens with a total probability of at least top_p.

    >>> logits = torch.tensor([0.5, 0.3, 0.2]).log()
    >>> [round(p, 3) for p in next_token_probabilities(logits, top_p=0.6).tolist()]
    [0.625, 0.375, 0.0]
    >>> next_token_probabilities(logits, temperature=0).tolist()
    [1.0, 0.0, 0.0]

    Raises:
        UserError: A setting is out of range; see `check_sampling`.

    Source: top-p is nucleus sampling, "The Curious Case of Neural Text Degeneration", section 3.1.
    """
    check_sampling(temperature, top_k, top_p)
    logits = logits.float()
    if temperature == 0:
        greedy = torch.zeros_like(logits)
        greedy[logits.argmax()] = 1.0
        return greedy
    # Subtract the largest logit first, so that a small temperature cannot overflow.
    scaled = (logits - logits.max()) / temperature
    if top_k is not None and top_k < len(scaled):
        best = scaled.topk(top_k)
        scaled = torch.full_like(scaled, float("-inf")).scatter(0, best.indices, best.values)
    probabilities = scaled.softmax(dim=0)
    if top_p is not None and top_p < 1.0:
        ordered, order = probabilities.sort(descending=True, stable=True)
        # Keep a token if the more likely ones do not reach top_p: the most likely one is always
        # kept.
        kept = ordered.cumsum(dim=0) - ordered < top_p
        probabilities = torch.zeros_like(probabilities).scatter(0, order, ordered * kept)
        probabilities = probabilities / probabilities.sum()
    return probabilities


def draw(probabilities: Float[Tensor, "V"], generator: torch.Generator) -> int:
    """Sample one token id."""
    return int(torch.multinomial(probabilities, 1, generator=generator).item())
