"""AdamW: each weight is updated by its mean gradient, divided by the gradient's usual size.

The arithmetic is torch's fused kernel, one call for all parameters. `torch.optim.AdamW` would also
import torch's compiler, which takes most of a second at the start of a run.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from groundup.base.errors import UserError
from groundup.train.sharding import as_part_of, gradients, own_part

_AVERAGES = ("exp_avg", "exp_avg_sq")
_FUSED = ("cpu", "cuda")
"""The devices whose fused kernel is tested here; others use single operations."""


class AdamW(Optimizer):
    """Adam with decoupled weight decay, with the interface of `torch.optim.AdamW`.

    It takes any module's parameters, works with torch's learning-rate schedulers, and reads the
    state of torch's class.

    Args:
        params: The parameters, pairs of names and parameters, or groups: dictionaries with "params"
            and settings that differ. Those without a gradient are not updated.
        lr: Learning rate.
        betas: Decay rates of the averages of the gradient and of its square.
        eps: Constant that keeps the update from dividing by zero.
        weight_decay: Fraction of each weight that is subtracted per step, times the rate.

    Raises:
        UserError: A setting is out of its range.
        ValueError: There are no parameters, or one is in two groups.

    Source: "Decoupled Weight Decay Regularization", algorithm 2.

    >>> weight = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = AdamW([weight], lr=0.1, weight_decay=0.0)
    >>> (3 * weight).sum().backward()
    >>> optimizer.step()
    >>> weight.data  # the first update is as large as the rate
    tensor([0.9000])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | int = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float | int = 1e-8,
        weight_decay: float | int = 0.01,
    ) -> None:
        for name, value in {"lr": lr, "eps": eps, "weight_decay": weight_decay}.items():
            if not value >= 0:
                raise UserError(f"{name} is {value!r}. A number of at least 0 is expected.")
        if not all(0 <= beta < 1 for beta in betas):
            raise UserError(f"betas is {betas!r}. Two numbers from 0 to below 1 are expected.")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own."""
        # torch wraps this method so that its compiler skips it, and the wrapper imports the
        # compiler.
        inspect.unwrap(Optimizer.add_param_group)(self, param_group)

    @torch.no_grad()
    def step(
        self, closure: Callable[[], Any] | None = None, *, finite: Tensor | None = None
    ) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: Computes the loss and the gradients again.
            finite: Update nothing where this is false, without reading it.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            states = [self._state_of(weight) for weight in weights]
            parts = [own_part(weight) for weight in weights]
            adamw(
                parts,
                [_laid_out(g, as_in=p) for g, p in zip(gradients(weights), parts, strict=True)],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=all(part.device.type in _FUSED for part in parts),
                found_inf=None if finite is None else (~finite).float(),
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )
            # The fused kernel does not, and `MixedPrecision` relies on it.
            torch.autograd.graph.increment_version(weights)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned, of this class or of `torch.optim.AdamW`.

        Raises:
            UserError: The state is that of a variant, which this class does not compute.
            ValueError: The groups have other numbers of parameters.
        """
        for variant in ("amsgrad", "maximize"):
            if any(group.get(variant) for group in state_dict["param_groups"]):
                raise UserError(
                    f"The stored optimizer state has {variant}=True. AdamW without it is expected."
                )
        super().load_state_dict(state_dict)
        for weight, state in self.state.items():
            # The kernel needs it beside the weight; torch's other kernels have it on the CPU.
            step = torch.as_tensor(state["step"], dtype=torch.float32, device=weight.device)
            state["step"] = step
            state |= {key: _laid_out(state[key], as_in=weight) for key in _AVERAGES}

    def tensors(self) -> dict[str, Tensor]:
        """The averages and the number of steps of each parameter, for a checkpoint of shards.

        The parameters must have been given with their names. These are the tensors themselves, not
        copies: the next step changes them.
        """
        found = {}
        for group in self.param_groups:
            for name, weight in zip(group["param_names"], group["params"], strict=True):
                state = self._state_of(weight)
                for key in _AVERAGES:
                    found[f"adamw/{name}/{key}"] = as_part_of(state[key], weight)
                found[f"adamw/{name}/step"] = state["step"].view(1)
        return found

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Load what `tensors` returned."""
        for name, part in self.tensors().items():
            part.copy_(tensors[name])

    def _state_of(self, weight: Tensor) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[weight]
        if not state:
            part = own_part(weight)
            state["step"] = torch.zeros((), device=weight.device)
            state |= {key: torch.zeros_like(part) for key in _AVERAGES}
        return state


def _laid_out(tensor: Tensor, *, as_in: Tensor) -> Tensor:
    """The tensor in the memory layout of a weight: the kernel reads all of them in memory order."""
    if tensor.stride() == as_in.stride():
        return tensor
    return torch.empty_like(as_in, requires_grad=False).copy_(tensor)
