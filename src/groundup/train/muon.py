"""Muon: steepest descent for matrices, where every direction of the update gets the same length.

A gradient matrix of a transformer has a few strong directions and many faint ones. Muon keeps the
directions (the singular vectors of the momentum) and sets all their strengths (singular values) to
about one, so the faint ones are learnt as fast as the strong ones. A few matrix products do it,
without a singular value decomposition.

Ours, beside `torch.optim.Muon` (held equal to it by a test), for two reasons: matrices of one shape
go through the products together, which saves most of the calls of a small model; and the products
run in bfloat16 only where the processor has it, for elsewhere bfloat16 is emulated and many times
slower than float32.
"""

import torch
from jaxtyping import Float
from torch import Tensor

# a, b, c of the quintic X <- aX + bAX + cA^2X with A = X X^T: steepest at zero, so that faint
# directions grow fast; the strengths end between about 0.7 and 1.2, which does no harm.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(
    updates: Float[Tensor, "N rows columns"], *, n_iterations: int, dtype: torch.dtype
) -> Float[Tensor, "N rows columns"]:
    """Bring all singular values of each matrix near one, by Newton-Schulz iteration.

    >>> matrix = torch.diag(torch.tensor([100.0, 1.0, 10.0]))[None]
    >>> ours = orthogonalise(matrix, n_iterations=5, dtype=torch.float32)[0].diagonal()
    >>> bool((ours > 0.6).all() and (ours < 1.3).all())
    True

    Source: "Muon: An optimizer for hidden layers in neural networks" (Jordan, 2024).
    """
    a, b, c = _COEFFICIENTS
    tall = updates.shape[-2] > updates.shape[-1]
    x = updates.to(dtype)
    x = x.mT if tall else x  # the square matrix A is then the smaller one
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)  # every singular value <= 1
    for _ in range(n_iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon:
    """Momentum, orthogonalised, for the matrices of a model.

    Args:
        parameters: Names and matrices.
        momentum: How much of the old direction a step keeps.
        weight_decay: Share of each weight taken away per step, times the learning rate.
        n_iterations: Newton-Schulz steps.
    """

    def __init__(
        self,
        parameters: dict[str, torch.nn.Parameter],
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        n_iterations: int = 5,
    ) -> None:
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.n_iterations = n_iterations
        by_shape: dict[tuple[int, ...], dict[str, torch.nn.Parameter]] = {}
        for name, parameter in parameters.items():
            if parameter.ndim != 2:
                raise ValueError(f"Muon is for matrices; {name} has shape {tuple(parameter.shape)}")
            by_shape.setdefault(tuple(parameter.shape), {})[name] = parameter
        self._groups = list(by_shape.values())
        self._buffers = [
            torch.stack([torch.zeros_like(p) for p in group.values()]) for group in self._groups
        ]
        self._dtype = fast_dtype(next(iter(parameters.values())).device) if parameters else None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move every matrix once. A matrix without a gradient counts as one with gradient zero."""
        for group, buffer in zip(self._groups, self._buffers, strict=True):
            assert self._dtype is not None
            weights = [parameter.data for parameter in group.values()]
            gradients = torch.stack(
                [torch.zeros_like(p) if p.grad is None else p.grad for p in group.values()]
            )
            buffer.lerp_(gradients, 1.0 - self.momentum)
            ahead = gradients.lerp_(buffer, self.momentum)  # Nesterov: look one step ahead
            updates = orthogonalise(ahead, n_iterations=self.n_iterations, dtype=self._dtype)
            rows, columns = weights[0].shape
            rate = learning_rate * max(1.0, rows / columns) ** 0.5
            if self.weight_decay:
                torch._foreach_mul_(weights, 1.0 - learning_rate * self.weight_decay)
            torch._foreach_add_(weights, list(updates.to(buffer.dtype).unbind()), alpha=-rate)

    def state(self) -> dict[str, Tensor]:
        """The momentum of each matrix, by name."""
        return {
            f"muon/{name}": buffer[index].clone()
            for group, buffer in zip(self._groups, self._buffers, strict=True)
            for index, name in enumerate(group)
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up the momentum stored by `state`."""
        for group, buffer in zip(self._groups, self._buffers, strict=True):
            for index, name in enumerate(group):
                buffer[index].copy_(state[f"muon/{name}"])


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it natively, else float32."""
    if device.type != "cpu":
        return torch.bfloat16
    # Private names, so their absence in another torch means "not known to be fast".
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    fast = any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
    return torch.bfloat16 if fast else torch.float32
