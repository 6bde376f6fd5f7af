"""From logits to the next token: temperature (how bold), top-k (of how many), top-p."""

import torch
from jaxtyping import Float
from torch import Tensor

from groundup.base.errors import UserError


def check_sampling(temperature: float | int, top_k: int | None, top_p: float | None) -> None:
    """Refuse settings that mean nothing.

    Raises:
        UserError: temperature below 0, top_k below 1, or top_p outside (0, 1].
    """
    if not 0.0 <= temperature < float("inf"):
        raise UserError(
            f"temperature is {temperature}",
            need="0 (always the likeliest token) or a positive number",
            type_this="--temperature 0.8",
        )
    if top_k is not None and top_k < 1:
        raise UserError(f"top_k is {top_k}", need="at least 1", type_this="--top-k 50")
    if top_p is not None and not 0.0 < top_p <= 1.0:
        raise UserError(
            f"top_p is {top_p}", need="a share above 0 and up to 1", type_this="--top-p 0.9"
        )


def next_token_probabilities(
    logits: Float[Tensor, "V"],
    *,
    temperature: float | int = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Float[Tensor, "V"]:
    """The distribution the next token is drawn from.

    First the logits are divided by the temperature (0 puts everything on the likeliest token), then
    all but the top_k likeliest tokens go, then all but the smallest set of likeliest tokens that
    together reach top_p.

    >>> logits = torch.tensor([0.5, 0.3, 0.2]).log()
    >>> [round(p, 3) for p in next_token_probabilities(logits, top_p=0.6).tolist()]
    [0.625, 0.375, 0.0]
    >>> next_token_probabilities(logits, temperature=0).tolist()
    [1.0, 0.0, 0.0]

    Raises:
        UserError: a setting means nothing; see `check_sampling`.

    Source: top-p is nucleus sampling, "The Curious Case of Neural Text Degeneration", section 3.1.
    """
    check_sampling(temperature, top_k, top_p)
    logits = logits.float()
    if temperature == 0:
        only = torch.zeros_like(logits)
        only[logits.argmax()] = 1.0
        return only
    # The largest logit is taken off first, so that a tiny temperature cannot overflow.
    scaled = (logits - logits.max()) / temperature
    if top_k is not None and top_k < len(scaled):
        kept = torch.full_like(scaled, float("-inf"))
        best = scaled.topk(top_k)
        scaled = kept.scatter(0, best.indices, best.values)
    probabilities = scaled.softmax(dim=0)
    if top_p is not None and top_p < 1.0:
        ordered, order = probabilities.sort(descending=True, stable=True)
        # A token stays when those before it have not yet reached top_p: the likeliest one always
        # stays.
        stays = ordered.cumsum(dim=0) - ordered < top_p
        probabilities = torch.zeros_like(probabilities).scatter(0, order, ordered * stays)
        probabilities = probabilities / probabilities.sum()
    return probabilities


def draw(probabilities: Float[Tensor, "V"], generator: torch.Generator) -> int:
    """One token id, drawn by the generator."""
    return int(torch.multinomial(probabilities, 1, generator=generator).item())
