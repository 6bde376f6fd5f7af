"""AdamW: each weight is updated by its mean gradient, divided by the gradient's usual size.

The arithmetic is torch's fused kernel, one call for all parameters. `torch.optim.AdamW` would also
import torch's compiler, which takes most of a second at the start of a run.
"""

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from groundup.train.sharding import as_part_of, gradients, own_part

_FUSED = ("cpu", "cuda")
"""The devices whose fused kernel is tested here; others use single operations."""


class AdamW:
    """Adam with decoupled weight decay.

    Args:
        parameters: Names and parameters. Those without a gradient are not updated.
        learning_rate: The peak learning rate.
        weight_decay: Fraction of each weight that is subtracted per step, times the rate.
        betas: Decay rates of the averages of the gradient and of its square.

    Source: "Decoupled Weight Decay Regularization", algorithm 2.
    """

    def __init__(
        self,
        parameters: dict[str, torch.nn.Parameter],
        *,
        learning_rate: float,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.95),
    ) -> None:
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.betas = betas
        self._parameters = parameters
        self._fused = all(p.device.type in _FUSED for p in parameters.values())
        parts = [own_part(parameter) for parameter in parameters.values()]
        self._means = [torch.zeros_like(part) for part in parts]
        self._squares = [torch.zeros_like(part) for part in parts]
        self._steps = [torch.zeros((), device=p.device) for p in parameters.values()]

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Update every parameter once, at `factor` times the peak rate."""
        weights = list(self._parameters.values())
        updated = [index for index, weight in enumerate(weights) if weight.grad is not None]

        def selected(values: list[Tensor]) -> list[Tensor]:
            return [values[index] for index in updated]

        adamw(
            [own_part(weights[index]) for index in updated],
            gradients(weights),
            selected(self._means),
            selected(self._squares),
            [],
            selected(self._steps),
            fused=self._fused,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=self.learning_rate * factor,
            weight_decay=self.weight_decay,
            eps=1e-10,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        """The two averages and the number of steps of each parameter, by name."""
        state = {}
        for index, (name, parameter) in enumerate(self._parameters.items()):
            for key, values in (("exp_avg", self._means), ("exp_avg_sq", self._squares)):
                state[f"adamw/{name}/{key}"] = as_part_of(values[index], parameter)
            state[f"adamw/{name}/step"] = self._steps[index].view(1)
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Load what `state` returned."""
        for name, part in self.state().items():
            part.copy_(state[name])
