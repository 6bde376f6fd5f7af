"""The loss of GRPO: replies that are better than the others of their group become likelier."""

import torch
from jaxtyping import Float
from torch import Tensor

from groundup.base.targets import IGNORE_INDEX

_SMALL = 1e-4
"""Keeps an advantage from dividing by zero, as in trl."""


def advantages(
    rewards: Float[Tensor, "P G"], *, divide_by_std: bool = False
) -> Float[Tensor, "P G"]:
    """Compute by how much each reward is above the mean of its group.

    Dividing by the standard deviation gives groups with nearly equal rewards more weight, up to
    thousands of times more, so it is not the default.

    Args:
        rewards: One row per prompt.
        divide_by_std: Divide by the standard deviation of the group plus 1e-4.

    Source: "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models",
        section 4.1.2; without the division "Understanding R1-Zero-Like Training: A Critical
        Perspective", section 3.2.

    >>> advantages(torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])).tolist()
    [[0.5, -0.5, -0.5, 0.5], [0.0, 0.0, 0.0, 0.0]]
    """
    above = rewards - rewards.mean(dim=1, keepdim=True)
    if not divide_by_std:
        return above
    return above / (rewards.std(dim=1, keepdim=True) + _SMALL)


def policy_loss(
    log_probabilities: Float[Tensor, "B T"],
    targets: Tensor,
    weights: Float[Tensor, " B"],
    *,
    max_new_tokens: int,
    reference: Float[Tensor, "B T"] | None = None,
    kl_weight: float | int = 0.0,
) -> Float[Tensor, ""]:
    """Compute the loss of a batch of replies that the same weights have sampled.

    Each step uses its replies for one update. The ratio of new to old probabilities is then 1, so
    there is nothing to clip; only its gradient matters. The sum over tokens is divided by a
    constant, the largest length of a reply: dividing by the length of each reply would favor long
    wrong ones.

    Args:
        log_probabilities: Those of the targets.
        targets: Sampled tokens, (B, T); -100 elsewhere.
        weights: The advantage of each reply.
        max_new_tokens: Largest number of tokens of a reply.
        reference: Log probabilities by the model before training, for the KL divergence.
        kl_weight: Weight of the KL divergence.

    Source: "Understanding R1-Zero-Like Training: A Critical Perspective", section 3.2 and listing
        1; the estimate of the KL divergence is equation 4 of "DeepSeekMath".
    """
    ratios = torch.exp(log_probabilities - log_probabilities.detach())
    losses = -ratios * weights[:, None]  # (B, T)
    if reference is not None and kl_weight:
        gap = reference - log_probabilities
        losses = losses + kl_weight * (gap.exp() - gap - 1)
    losses = losses.masked_fill(targets == IGNORE_INDEX, 0.0)
    return losses.sum() / (len(losses) * max_new_tokens)
