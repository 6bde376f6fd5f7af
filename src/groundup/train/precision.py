"""Mixed precision: weights and their updates in float32, the products between them in bfloat16.

Each step multiplies with rounded copies of the weights. The gradients are float32 and update the
exact weights, so that updates too small for bfloat16's 8 bits still add up. Activations are
bfloat16, which halves the memory traffic of a step; the loss is float32.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from groundup.model.gpt import GPT

_LOOKED_UP = "ngram_embedding."
"""A large table of which a step reads a few rows: rounding the rows is cheaper than all of it."""


@torch.no_grad()
def store_frozen(model: nn.Module, dtype: torch.dtype) -> None:
    """Store the weights that are not trained in another number format.

    With LoRA nearly all weights are frozen: this saves half of their memory, and `MixedPrecision`
    no longer has to round them in each step.
    """
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)


class MixedPrecision(nn.Module):
    """The loss of a model, computed in another number format.

    Args:
        model: Holds the weights, in float32; frozen ones may be rounded already.
        dtype: The format of weights and activations in the products. float32 changes nothing.

    Source: "Mixed Precision Training", section 3.1.
    """

    def __init__(self, model: GPT, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype
        self._call = _Call(model)

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        targets: Int[Tensor, "B T"],
        reduction: Literal["mean", "sum"] = "mean",
    ) -> Float[Tensor, ""]:
        """Cross-entropy in nats, as `GPT.loss`."""
        return self.run(_loss, ids, targets, reduction)

    def run(self, function: Callable[..., Tensor], *arguments: object) -> Tensor:
        """Compute `function(model, *arguments)` with rounded weights.

        The gradients of the weights are float32.
        """
        if self.dtype == torch.float32:
            return function(self.model, *arguments)
        rounded = {
            f"model.{name}": parameter if name.startswith(_LOOKED_UP) else parameter.to(self.dtype)
            for name, parameter in self.model.named_parameters()
        }
        result: Tensor = functional_call(self._call, rounded, (function, *arguments))
        return result


def _loss(model: GPT, ids: Tensor, targets: Tensor, reduction: Literal["mean", "sum"]) -> Tensor:
    return model.loss(ids, targets, reduction=reduction)


class _Call(nn.Module):
    """A function of a model as the call of a module, as `functional_call` needs it."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., Tensor], *arguments: object) -> Tensor:
        return function(self.model, *arguments)
