"""AdamW: each number moves by its mean gradient over that gradient's usual size.

The arithmetic is torch's fused kernel, one call for all parameters. `torch.optim.AdamW` around it
would load torch's compiler, which takes most of a second at the start of a run.
"""

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from groundup.train.sharding import as_part_of, gradients, own_part


class AdamW:
    """Adam with the decay of weights apart from the gradient.

    Args:
        parameters: Names and parameters; one without a gradient is left alone.
        learning_rate: The full rate; `step` takes a share of it.
        weight_decay: Share of each weight taken away per step, times the rate.
        betas: The two averages: of the gradient, and of its square.

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
        parts = [own_part(parameter) for parameter in parameters.values()]
        self._means = [torch.zeros_like(part) for part in parts]
        self._squares = [torch.zeros_like(part) for part in parts]
        self._steps = [torch.zeros((), device=p.device) for p in parameters.values()]

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Move every parameter once, at `factor` of the full rate."""
        weights = list(self._parameters.values())
        moved = [index for index, weight in enumerate(weights) if weight.grad is not None]

        def those(values: list[Tensor]) -> list[Tensor]:
            return [values[index] for index in moved]

        adamw(
            [own_part(weights[index]) for index in moved],
            gradients(weights),
            those(self._means),
            those(self._squares),
            [],
            those(self._steps),
            fused=True,
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
        """Take up what `state` gave."""
        for name, part in self.state().items():
            part.copy_(state[name])
