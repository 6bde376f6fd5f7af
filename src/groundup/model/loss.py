"""The one loss: how surprised the model is by the token that came next, in nats."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

IGNORED = -100
"""A target with this value is not counted: padding, a prompt, a token another window counted."""


def cross_entropy(
    logits: Float[Tensor, "B T V"],
    targets: Int[Tensor, "B T"],
    *,
    reduction: Literal["mean", "sum"] = "mean",
) -> Float[Tensor, ""]:
    """-log softmax(logits)[target], over the targets that are not -100.

    "mean" divides by the number of counted targets; with none it is NaN, for there is nothing to
    average. To weigh unequal micro-batches rightly, add up "sum" and divide by the count once.
    Computed in float32 in any case.

    >>> import torch
    >>> round(cross_entropy(torch.zeros(1, 3, 7), torch.tensor([[0, 6, -100]])).item(), 4)  # ln 7
    1.9459
    """
    return F.cross_entropy(
        logits.flatten(0, 1).float(),
        targets.flatten().long(),
        ignore_index=IGNORED,
        reduction=reduction,
    )
