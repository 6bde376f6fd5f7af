"""Muon: gradient descent for matrices, where all directions of an update have the same size.

A gradient matrix of a transformer has a few strong directions and many weak ones. Muon keeps the
directions (the singular vectors of the momentum) and sets all their strengths (singular values) to
about one, so the weak ones are learned as fast as the strong ones. A few matrix products do it,
without a singular value decomposition.

Why not `torch.optim.Muon` (a test checks that the results are equal): matrices of one shape share
the products, which saves most of the calls of a small model; and the products use bfloat16 only
where the processor supports it, because emulated bfloat16 is many times slower than float32.
On a GPU all that is not a product is compiled into a few kernels per shape.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from groundup.base.device import choose_dtype
from groundup.train.sharding import all_rows, as_part_of, own_part

# a, b, c of each step X <- aX + bAX + cA^2X with A = X X^T. Each polynomial brings the singular
# values of the step before as near to 1 as possible; the first starts with values between `lowest`
# and 1, and with fewer steps weaker directions stay below 1. The polynomials grow fast outside
# their range: all but the last are made for values 2 % larger, so that rounding errors cannot
# explode. tests/train/test_muon.py computes them again.
POLAR: dict[int, tuple[tuple[float, float, float], ...]] = {
    3: (  # lowest 0.01: ends between 0.72 and 1.28
        (7.9354, -22.2604, 15.8031),
        (3.5779, -2.5775, 0.4885),
        (2.6987, -2.0183, 0.4616),
    ),
    4: (  # lowest 0.003: ends between 0.79 and 1.21
        (8.2200, -23.3401, 16.6284),
        (3.9690, -2.8420, 0.5166),
        (3.4625, -2.4978, 0.4801),
        (2.5403, -1.8882, 0.4480),
    ),
    5: (  # lowest 0.001: ends between 0.87 and 1.13
        (8.3050, -23.6625, 16.8749),
        (4.1026, -2.9307, 0.5260),
        (3.8958, -2.7931, 0.5114),
        (3.2655, -2.3596, 0.4655),
        (2.3300, -1.7076, 0.4295),
    ),
}
_MARGIN = 1.02


def orthogonalize(
    updates: Float[Tensor, "N rows columns"],
    coefficients: tuple[tuple[float, float, float], ...] = POLAR[5],
    *,
    dtype: torch.dtype,
) -> Float[Tensor, "N rows columns"]:
    """Bring all singular values of each matrix near one, by polynomials of the matrix.

    >>> matrix = torch.diag(torch.tensor([100.0, 1.0, 10.0]))[None]
    >>> ours = orthogonalize(matrix, dtype=torch.float32)[0].diagonal()
    >>> bool((ours > 0.85).all() and (ours < 1.15).all())
    True

    Source: "Muon: An optimizer for hidden layers in neural networks" (Jordan, 2024); the choice of
        coefficients "The Polar Express", algorithm 1.
    """
    tall = updates.shape[-2] > updates.shape[-1]
    x = updates.to(dtype)
    x = x.mT if tall else x  # the square matrix A is then the smaller one
    x = x / (_MARGIN * x.norm(dim=(-2, -1), keepdim=True)).clamp(min=1e-7)
    if dtype != torch.bfloat16 and x.shape[-1] >= 2 * x.shape[-2]:
        x = _product_of_steps(x @ x.mT, coefficients) @ x
    else:
        for a, b, c in coefficients:
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _product_of_steps(
    gram: Float[Tensor, "N rows rows"], coefficients: tuple[tuple[float, float, float], ...]
) -> Float[Tensor, "N rows rows"]:
    """The matrix P such that P X is X after all steps, computed from A = X X^T.

    Each step is a polynomial p(A) of its A, and the next step has p A p. So a wide X is used in two
    products in total, not two per step. In bfloat16, A would lose the weak directions.
    """
    product: Tensor | None = None
    for number, (a, b, c) in enumerate(coefficients, start=1):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        product = factor if product is None else factor @ product
        if number < len(coefficients):
            gram = factor @ gram @ factor
    assert product is not None
    return product


def _ahead(
    buffer: Float[Tensor, "N rows columns"],
    gradients: Float[Tensor, "N rows columns"],
    momentum: float,
    finite: Tensor | None,
) -> Float[Tensor, "N rows columns"]:
    """Update the momentum, and return Nesterov's, which is one gradient ahead of it."""
    if finite is not None:
        gradients = torch.where(finite, gradients, 0.0)
    buffer.lerp_(gradients, 1.0 - momentum)
    return gradients.lerp_(buffer, momentum)


class Muon:
    """Orthogonalized momentum for the matrices of a model.

    Args:
        parameters: Names and matrices.
        momentum: Decay rate of the average of the gradient.
        weight_decay: Fraction of each weight that is subtracted per step, times the learning rate.
        stacked_rows: For parameters that stack several matrices, e.g. one query matrix per head:
            the rows of one matrix. Each is orthogonalized separately.
        newton_schulz_steps: Iterations of `orthogonalize`: 3, 4 or 5.
        dtype: Number format of the products. None: the fastest that is exact enough on this device.
        compiled: Compile the computation of the updates with torch.compile.
    """

    def __init__(
        self,
        parameters: dict[str, torch.nn.Parameter],
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        newton_schulz_steps: int = 5,
        stacked_rows: Mapping[str, int] = MappingProxyType({}),
        dtype: torch.dtype | None = None,
        compiled: bool = False,
    ) -> None:
        self.momentum = momentum
        self.weight_decay = weight_decay
        self._coefficients = POLAR[newton_schulz_steps]
        self._ahead, self._orthogonalize = _ahead, orthogonalize
        if compiled:
            self._ahead, self._orthogonalize = (
                torch.compile(function, dynamic=False) for function in (_ahead, orthogonalize)
            )
        by_shape: dict[tuple[int, ...], dict[str, torch.nn.Parameter]] = {}  # and rows of one
        for name, parameter in parameters.items():
            if parameter.ndim != 2:
                raise ValueError(f"Muon is for matrices; {name} has shape {tuple(parameter.shape)}")
            rows = stacked_rows.get(name, len(parameter))
            by_shape.setdefault((*parameter.shape, rows), {})[name] = parameter
        self._groups = list(by_shape.values())
        self._rows = [rows for _, _, rows in by_shape]
        self._buffers = [
            torch.stack([torch.zeros_like(own_part(p)) for p in group.values()])
            for group in self._groups
        ]
        self._dtype = dtype
        if dtype is None and parameters:
            self._dtype = choose_dtype("auto", next(iter(parameters.values())).device)

    @torch.no_grad()
    def step(self, learning_rate: float, finite: Tensor | None = None) -> None:
        """Update every matrix once. A missing gradient counts as zero.

        Args:
            learning_rate: The learning rate.
            finite: Where this is false, every gradient counts as zero.
        """
        for group, buffer, rows in zip(self._groups, self._buffers, self._rows, strict=True):
            weights = [own_part(parameter) for parameter in group.values()]
            gradients = torch.stack(
                [
                    torch.zeros_like(own_part(p)) if p.grad is None else own_part(p.grad)
                    for p in group.values()
                ]
            )
            ahead = self._ahead(buffer, gradients, self.momentum, finite)
            # A shard of a matrix cannot be orthogonalized separately.
            whole, ours = all_rows(ahead, of=next(iter(group.values())))
            updates = self._directions(whole, rows)[:, ours]
            rate = learning_rate * max(1.0, rows / whole.shape[-1]) ** 0.5
            if self.weight_decay:
                torch._foreach_mul_(weights, 1.0 - learning_rate * self.weight_decay)
            torch._foreach_add_(weights, list(updates.to(buffer.dtype).unbind()), alpha=-rate)

    @torch.no_grad()
    def compile_now(self) -> None:
        """Compute an update of every shape and throw it away, if this is compiled."""
        if self._ahead is _ahead:
            return
        for group, buffer, rows in zip(self._groups, self._buffers, self._rows, strict=True):
            finite = torch.ones((), dtype=torch.bool, device=buffer.device)
            zeros = torch.zeros_like(buffer)
            ahead = self._ahead(zeros.clone(), zeros, self.momentum, finite)
            self._directions(all_rows(ahead, of=next(iter(group.values())))[0], rows)

    def _directions(
        self, whole: Float[Tensor, "N rows columns"], rows: int
    ) -> Float[Tensor, "N rows columns"]:
        assert self._dtype is not None
        parts = whole.reshape(-1, rows, whole.shape[-1])
        return self._orthogonalize(parts, self._coefficients, dtype=self._dtype).reshape(
            whole.shape
        )

    def state(self) -> dict[str, Tensor]:
        """The momentum of each matrix, by name."""
        return {
            f"muon/{name}": as_part_of(buffer[index], parameter)
            for group, buffer in zip(self._groups, self._buffers, strict=True)
            for index, (name, parameter) in enumerate(group.items())
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Load what `state` returned."""
        for name, part in self.state().items():
            part.copy_(state[name])
