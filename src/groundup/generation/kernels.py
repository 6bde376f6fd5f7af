"""Matrix products for generation: the forms of a weight, and the operator that is fastest for each.

One token takes the time to read the weights once, so fewer bits per weight are faster; many rows
take the time to multiply, and there the 4-bit and 8-bit operators lose to bfloat16. `choose`
measures both on this machine. All operators are torch's own; none is compiled.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from groundup.base.device import choose_dtype
from groundup.model.quantized import GROUP, QuantizedWeight

Product = Callable[[Tensor], Tensor]
"""(N, columns) to (N, rows)."""
Form = Literal["float32", "bfloat16", "int8", "file"]
Kernel = Literal["float32", "packed float32", "bfloat16", "packed bfloat16", "int8", "int4"]

_PACK_ROWS = 16
"""Rows that oneDNN lays a weight out for. Its layout for one row is slower, even for one row."""
_PROBE_BYTES = 48e6
"""Weights that a measurement reads: more than a small processor cache has."""
_SMALL = 1 << 20
"""Below this number of weights nothing is measured: the time goes into calling operators."""


@dataclass(frozen=True)
class Matrix:
    """A weight (rows, columns), in numbers or in quantized blocks, and its bias."""

    weight: Tensor | QuantizedWeight
    bias: Tensor | None = None
    is_int8: bool = False
    """Whether the weight is rounded to int8, whichever kernel multiplies it."""

    @property
    def n_columns(self) -> int:
        """Width of the input."""
        weight = self.weight
        return (weight if isinstance(weight, Tensor) else weight.quants).shape[1]

    @property
    def n_weights(self) -> int:
        """Number of weights."""
        weight = self.weight
        return (weight if isinstance(weight, Tensor) else weight.quants).numel()

    def numbers(self) -> Tensor:
        """The weight in float32."""
        weight = self.weight if isinstance(self.weight, Tensor) else self.weight.dequantize()
        if not self.is_int8:
            return weight
        quants, scales = _quantize(weight)
        return quants * scales.float()[:, None]


def dtype_of(kernel: Kernel) -> torch.dtype:
    """Dtype of the activations that a kernel multiplies."""
    return torch.float32 if kernel in ("float32", "packed float32") else torch.bfloat16


def make_product(kernel: Kernel, matrix: Matrix) -> Product:
    """Lay out a weight for a kernel, and return its product."""
    dtype = dtype_of(kernel)
    bias = None if matrix.bias is None else matrix.bias.detach().to(dtype)
    if kernel == "int4" and isinstance(matrix.weight, QuantizedWeight):
        if matrix.weight.n_bits == 4 and matrix.n_weights // matrix.n_columns % 16 == 0:
            return _int4(matrix.weight, bias)
        kernel = "int8" if matrix.weight.n_bits == 8 else kernel
    weight = matrix.numbers().detach()
    # The operator reads 32 columns at a time: beyond the end of other numbers of columns.
    if kernel == "int8" and matrix.n_columns % 32 == 0:
        return _int8(weight, bias)
    weight = weight.to(dtype)
    if kernel in ("float32", "bfloat16"):
        return lambda x: F.linear(x, weight, bias)
    multiply = torch.ops.mkldnn._linear_pointwise.default
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _PACK_ROWS)
    return lambda x: multiply(x, packed, bias, "none", [], "")


def _int4(weight: QuantizedWeight, bias: Tensor | None) -> Product:
    """Blocks of 4 bits as they are: number = (quant - 8) * scale + zero."""
    multiply = torch.ops.aten._weight_int4pack_mm_for_cpu.default
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(weight.quants.int(), 1)
    zeros = weight.minima + 8 * weight.scales
    scales_zeros = torch.stack((weight.scales, zeros), dim=-1).transpose(0, 1)
    scales_zeros = scales_zeros.contiguous().bfloat16()  # (groups, rows, 2)
    if bias is None:
        return lambda x: multiply(x, packed, GROUP, scales_zeros)
    return lambda x: multiply(x, packed, GROUP, scales_zeros) + bias


def _int8(weight: Tensor, bias: Tensor | None) -> Product:
    """8 bits, with one scale per row."""
    multiply = torch.ops.aten._weight_int8pack_mm.default
    quants, scales = _quantize(weight)
    if bias is None:
        return lambda x: multiply(x, quants, scales)
    return lambda x: multiply(x, quants, scales) + bias


def _quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a weight to int8, with a scale in bfloat16 per row; rounding it again changes nothing.

    The operator multiplies by a scale in bfloat16, so the quants are made for the rounded one.
    """
    scales = (weight.float().abs().amax(dim=1).clamp(min=1e-30) / 127).bfloat16()
    quants = (weight / scales.float()[:, None]).round_().clamp_(-127, 127).to(torch.int8)
    return quants, scales


@dataclass(frozen=True)
class Kernels:
    """Which kernel computes each product, by the number of rows of a call."""

    few: Kernel
    many: Kernel
    n_few: int = 0
    """Largest number of rows for `few`."""

    def __str__(self) -> str:
        if not self.n_few or self.few == self.many:
            return self.many
        return f"{self.few} up to {self.n_few} rows, {self.many} above"


def choose(
    form: Form, matrices: Sequence[Matrix], device: torch.device, *, measure: bool = True
) -> Kernels:
    """Choose the kernels of a form for this machine.

    Args:
        form: How weights are stored.
        matrices: The weights of a model; some of them are multiplied as a measurement.
        device: Where they are multiplied.
        measure: False chooses by the processor alone, so that the choice is always the same.
    """
    exact: Kernel = "float32"
    half: Kernel = "bfloat16"
    if device.type != "cpu":
        return Kernels(exact, exact) if form == "float32" else Kernels(half, half)
    n_weights = sum(matrix.n_weights for matrix in matrices)
    measure = measure and n_weights >= _SMALL
    if torch._C._has_mkldnn and n_weights >= _SMALL:
        exact, half = "packed float32", "packed bfloat16"
    # Not measured: beside other programs the wrong one can win, and it takes twice the time alone.
    if form == "float32":
        return Kernels(exact, exact)
    if choose_dtype("auto", device) != torch.bfloat16:
        # Products in bfloat16 are emulated: several times as slow as those in float32.
        return Kernels(exact, exact)
    few: Kernel = half if form == "bfloat16" else "int8" if form == "int8" else "int4"
    if few == half:
        return Kernels(half, half)
    if not measure:
        return Kernels(few, half, 8)
    n_few = 0
    for n_rows in (1, 2, 4, 8, 12):
        if fastest((few, half), matrices, n_rows) != few:
            break
        n_few = n_rows
    return Kernels(few, half, n_few)


def fastest(
    kernels: Sequence[Kernel], matrices: Sequence[Matrix], n_rows: int, n_rounds: int = 5
) -> Kernel:
    """Multiply some of the weights by each kernel in turn, and return the fastest one.

    The first kernel is the one that is expected: it is replaced only by one that is faster in every
    round, and clearly, because other programs may disturb the measurement.
    """
    sample: list[Matrix] = []
    n_bytes = 0.0
    for matrix in matrices:  # different ones, so that they come from memory, not from a cache
        sample.append(matrix)
        n_bytes += 4 * matrix.n_weights
        if n_bytes > _PROBE_BYTES:
            break
    calls: list[list[tuple[Product, Tensor]]] = []
    for kernel in kernels:
        dtype = dtype_of(kernel)
        inputs = {n: torch.ones(n_rows, n, dtype=dtype) for n in {m.n_columns for m in sample}}
        calls.append([(make_product(kernel, m), inputs[m.n_columns]) for m in sample])
    expected, *others = range(len(kernels))
    seconds: list[list[float]] = [[] for _ in kernels]
    for _ in range(n_rounds):
        for i, pairs in enumerate(calls):
            began_at = time.perf_counter()
            for product, x in pairs:
                product(x)
            seconds[i].append(time.perf_counter() - began_at)

    def is_faster(i: int) -> bool:
        pairs = zip(seconds[i], seconds[expected], strict=True)
        return min(seconds[i]) < 0.9 * min(seconds[expected]) and all(a < b for a, b in pairs)

    faster = [i for i in others if is_faster(i)]
    return kernels[min(faster, key=lambda i: min(seconds[i]), default=expected)]
