"""Mixed precision: weights and their updates in float32, the products between them in bfloat16.

Each step multiplies with rounded copies of the weights. The gradients are float32 and update the
exact weights, so that updates too small for bfloat16's 8 bits still add up. Activations are
bfloat16, which halves the memory traffic of a step; the loss is float32.

On a CPU the copies are kept until the weights change: the parts of a batch and all batches of a
validation use the same ones. Frozen weights are rounded once. LoRA adapters, and what is beside the
language model, such as the head of a classifier, stay float32.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from groundup.model.gpt import GPT
from groundup.model.lora import LoRALinear

T = TypeVar("T")
_EXACT = "ngram_embedding.", ".delta.decay_"
"""Names of weights that are not rounded. The first is a large table of which a step reads a few
rows: rounding the rows is cheaper than all of it. The others decide how long a state lasts."""


class MixedPrecision(nn.Module):
    """The loss of a model, computed in another number format.

    Args:
        model: A language model, or a module that contains one. Holds the weights.
        dtype: The format of weights and activations in the products. float32 changes nothing.

    Source: "Mixed Precision Training", section 3.1.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype
        self._call = _Call(model)
        low = dtype != torch.float32
        self._rounded_names = _names_in_products(model) if low else frozenset()
        self._copies: dict[str, tuple[int, Tensor, Tensor]] = {}
        self._frozen = {
            name: weight.detach().to(dtype)
            for name, weight in model.named_parameters()
            if name in self._rounded_names and not weight.requires_grad
        }

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        targets: Int[Tensor, "B T"],
        lengths: Int[Tensor, "B D"] | None = None,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> Float[Tensor, ""]:
        """Cross-entropy in nats, as `GPT.loss`."""
        return self.run(_loss, ids, targets, lengths, reduction)

    def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Compute `function(model, *arguments)` with rounded weights.

        The gradients of the weights are float32.
        """
        if self.dtype == torch.float32:
            return function(self.model, *arguments)
        rounded = {
            f"model.{name}": self._copy_of(name, weight)
            for name, weight in self.model.named_parameters()
            if name in self._rounded_names
        }
        result: T = functional_call(self._call, rounded, (function, *arguments))
        return result

    def _copy_of(self, name: str, weight: Tensor) -> Tensor:
        if name in self._frozen:
            return self._frozen[name]
        if weight.device.type != "cpu" or torch.compiler.is_compiling():
            return weight.to(self.dtype)
        now = weight.detach()  # in the copies, it keeps others from getting this memory
        version, before, copy = self._copies.get(name, (-1, None, None))
        if copy is None or copy.shape != now.shape:
            with torch.inference_mode(False):  # or training could not use it later
                copy = torch.empty_like(now, dtype=self.dtype)
            before = None
        # torch counts the changes of a tensor in place, as by `load_state_dict`. It does not count
        # those of `weight.data` and of its fused optimizers: `AdamW` does so itself.
        is_same = before is not None and before.data_ptr() == now.data_ptr()
        if not is_same or version != weight._version:
            copy.copy_(now)
            self._copies[name] = weight._version, now, copy
        rounded: Tensor = _Rounded.apply(weight, copy)  # type: ignore[no-untyped-call]
        return rounded


def _names_in_products(model: nn.Module) -> frozenset[str]:
    """Name the weights that are rounded: those of the language model, without its adapters."""
    languages = [module for module in model.modules() if isinstance(module, GPT)]
    exact: set[nn.Parameter] = set()
    for module in model.modules():
        if isinstance(module, LoRALinear):
            own = module.named_parameters(recurse=False)
            exact.update(weight for name, weight in own if name not in ("weight", "bias"))
    inside = {p for language in languages for p in language.parameters()}
    inside = inside or set(model.parameters())
    return frozenset(
        name
        for name, weight in model.named_parameters()
        if weight in inside and weight not in exact and not any(part in name for part in _EXACT)
    )


def _loss(
    model: GPT,
    ids: Tensor,
    targets: Tensor,
    lengths: Tensor | None,
    reduction: Literal["mean", "sum"],
) -> Tensor:
    return model.loss(ids, targets, lengths, reduction=reduction)


class _Rounded(torch.autograd.Function):
    """A weight, as its rounded copy."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, copy: Tensor) -> Tensor:
        ctx.dtype = weight.dtype
        return copy.detach()

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None]:
        return outer.to(ctx.dtype), None


class _Call(nn.Module):
    """A function of a model as the call of a module, as `functional_call` needs it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., T], *arguments: object) -> T:
        return function(self.model, *arguments)
