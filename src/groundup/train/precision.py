"""Mixed precision: weights and their updates in float32, the products between them in bfloat16.

Each step multiplies with rounded copies of the weights. The gradients are float32 and update the
exact weights, so that updates too small for bfloat16's 8 bits still add up. Activations are
bfloat16, which halves the memory traffic of a step; the loss is float32.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from groundup.model.gpt import GPT

_LOOKED_UP = "ngram_embedding."
"""A large table of which a step reads a few rows: rounding the rows is cheaper than all of it."""


class MixedPrecision(nn.Module):
    """The loss of a model, computed in another number format.

    Args:
        model: Holds the weights, in float32.
        dtype: The format of weights and activations in the products. float32 changes nothing.

    Source: "Mixed Precision Training", section 3.1.
    """

    def __init__(self, model: GPT, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype
        self._loss = _Loss(model)

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        targets: Int[Tensor, "B T"],
        reduction: Literal["mean", "sum"] = "mean",
    ) -> Float[Tensor, ""]:
        """Cross-entropy in nats, as `GPT.loss`."""
        if self.dtype == torch.float32:
            return self.model.loss(ids, targets, reduction=reduction)
        rounded = {
            f"model.{name}": parameter if name.startswith(_LOOKED_UP) else parameter.to(self.dtype)
            for name, parameter in self.model.named_parameters()
        }
        loss: Tensor = functional_call(self._loss, rounded, (ids, targets, reduction))
        return loss


class _Loss(nn.Module):
    """`GPT.loss` as the call of a module, as `functional_call` needs it."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, targets: Tensor, reduction: Literal["mean", "sum"]) -> Tensor:
        return self.model.loss(ids, targets, reduction=reduction)
