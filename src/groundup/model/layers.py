"""The parts of a transformer block besides attention: linear maps, embedding, norms, activations.

Each one is a thin wrapper of torch's own kernel, so that the model and a reader's own code run the
same function. A formula in a docstring is what a test computes independently.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

Activation = Literal["swiglu", "gelu", "gelu-exact", "relu2"]


def softmax(x: Float[Tensor, "*N"], dim: int = -1) -> Float[Tensor, "*N"]:
    """Compute exp(x_i) / sum_j exp(x_j) along one dimension, so that it sums to one.

    The largest value is subtracted first: the result is the same, and exp cannot overflow. A value
    of minus infinity gets exactly 0; if all of them are minus infinity, the result is NaN.

    Raises:
        IndexError: There is no such dimension.

    >>> softmax(torch.tensor([[1000.0, 1000.0], [0.0, -torch.inf]])).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """
    return F.softmax(x, dim)


def silu(x: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """Compute x * sigmoid(x), also called swish, for each value.

    Source: "Gaussian Error Linear Units", section 3.

    >>> silu(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.2689,  0.0000,  0.7311])
    """
    return F.silu(x)


def gelu(
    x: Float[Tensor, "*N"], approximate: Literal["none", "tanh"] = "none"
) -> Float[Tensor, "*N"]:
    """Compute x times the normal distribution function of x, for each value.

    "none" is exact: x * (1 + erf(x / sqrt(2))) / 2. "tanh" is what GPT-2 was trained with:
    x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2. They differ by at most 0.0005.

    Source: "Gaussian Error Linear Units", section 2.

    >>> x = torch.tensor([-1.0, 0.0, 2.0])
    >>> gelu(x), gelu(x, "tanh")
    (tensor([-0.1587,  0.0000,  1.9545]), tensor([-0.1588,  0.0000,  1.9546]))
    """
    return F.gelu(x, approximate=approximate)


def swiglu(gate: Float[Tensor, "*N"], x: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """Compute silu(gate) * x: the hidden layer of a gated MLP, from its two linear maps.

    Source: "GLU Variants Improve Transformer", equation 5.

    >>> swiglu(torch.tensor([1.0]), torch.tensor([2.0]))
    tensor([1.4621])
    """
    return silu(gate) * x


class _SquaredReLU(torch.autograd.Function):
    """max(x, 0)^2, with one saved tensor and one kernel in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = F.relu(x)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return torch.addcmul(gradient.new_zeros(()), gradient, positive, value=2)


squared_relu: Callable[[Tensor], Tensor] = _SquaredReLU.apply


class Linear(nn.Linear):
    """x W^T + b, with a weight of shape (d_out, d_in).

    Args:
        d_in: Width of the input.
        d_out: Width of the output.
        bias: Add the vector b.
        initialize: Draw initial values as `torch.nn.Linear` does, from torch's global random state.
            False leaves the memory uninitialized, for a caller that sets every weight.

    >>> Linear(3, 2)(torch.ones(5, 4, 3)).shape
    torch.Size([5, 4, 2])
    """

    def __init__(
        self, d_in: int, d_out: int, *, bias: bool = True, initialize: bool = True
    ) -> None:
        self._initialize = initialize
        super().__init__(d_in, d_out, bias=bias)

    def reset_parameters(self) -> None:
        """Draw initial values, if the layer was made to."""
        if self._initialize:
            super().reset_parameters()


class Embedding(nn.Embedding):
    """One trained vector per id.

    Args:
        n_rows: Number of ids.
        width: Width of a vector.
        initialize: Draw initial values as `torch.nn.Embedding` does. False leaves the memory
            uninitialized, for a caller that sets every weight.

    >>> Embedding(10, 3)(torch.tensor([[1, 2], [9, 0]])).shape
    torch.Size([2, 2, 3])
    """

    def __init__(self, n_rows: int, width: int, *, initialize: bool = True) -> None:
        super().__init__(n_rows, width, _weight=None if initialize else torch.empty(n_rows, width))

    def forward(self, ids: Int[Tensor, "*N"]) -> Float[Tensor, "*N C"]:
        """Look up the vector of each id.

        Raises:
            IndexError: An id has no row (on a CPU).
        """
        return super().forward(ids)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, without subtracting the mean as LayerNorm does.

    Args:
        width: Size of the last dimension, along which the mean is taken.
        eps: Constant that keeps the norm from dividing by zero.

    Source: "Root Mean Square Layer Normalization", equation 4.

    >>> RMSNorm(2)(torch.tensor([3.0, 3.0])).round(decimals=2).tolist()
    [1.0, 1.0]
    """

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*N C"]) -> Float[Tensor, "*N C"]:
        """Normalize along the last dimension."""
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


class LayerNorm(nn.LayerNorm):
    """(x - mean(x)) / sqrt(var(x) + eps) * weight + bias; the variance divides by the width.

    Args:
        width: Size of the last dimension, along which mean and variance are taken.
        eps: Constant that keeps the norm from dividing by zero.
        bias: Add the vector `bias`.

    Source: "Layer Normalization", equation 4.

    >>> LayerNorm(2)(torch.tensor([1.0, 3.0])).round(decimals=2).tolist()
    [-1.0, 1.0]
    """

    def __init__(self, width: int, eps: float = 1e-5, *, bias: bool = True) -> None:
        super().__init__(width, eps=eps, bias=bias)

    def forward(self, x: Float[Tensor, "*N C"]) -> Float[Tensor, "*N C"]:
        """Normalize along the last dimension."""
        return super().forward(x)


class MLP(nn.Module):
    """Position-wise feed-forward network: linear, activation, linear.

    Args:
        d_model: Width of input and output.
        d_ff: Width in between.
        activation: "swiglu" has a third linear map, the gate; "gelu" is the tanh form, as in GPT-2.
        bias: Add a vector after each linear map.
        dropout: Fraction of the outputs that are set to zero in training.
        initialize: See `Linear`.

    Source: "Gaussian Error Linear Units", section 2; for SwiGLU "GLU Variants Improve Transformer",
        equation 6; for the squared ReLU "Primer: Searching for Efficient Transformers", section
        4.1.

    >>> MLP(4, 16)(torch.ones(2, 3, 4)).shape
    torch.Size([2, 3, 4])
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        *,
        activation: Activation = "swiglu",
        bias: bool = False,
        dropout: float | int = 0.0,
        initialize: bool = True,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.gated = activation == "swiglu"
        self.dropout = dropout
        # For swiglu the rows of the gate come first, then those that it multiplies: one matrix
        # product instead of two.
        self.up = Linear(d_model, d_ff * (1 + self.gated), bias=bias, initialize=initialize)
        self.down = Linear(d_ff, d_model, bias=bias, initialize=initialize)

    def forward(self, x: Float[Tensor, "*N C"]) -> Float[Tensor, "*N C"]:
        """Compute what the MLP adds to the residual stream."""
        if self.gated:
            gate, up = self.up(x).chunk(2, dim=-1)  # (..., F) each
            hidden = swiglu(gate, up)
        elif self.activation == "relu2":
            hidden = squared_relu(self.up(x))  # (..., F)
        else:
            hidden = gelu(self.up(x), "tanh" if self.activation == "gelu" else "none")
        return F.dropout(self.down(hidden), self.dropout, self.training)
