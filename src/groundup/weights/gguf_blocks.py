"""Values of the tensors of GGUF files: quantized blocks become float32.

A quantized row is a sequence of blocks. Q4_0, Q4_1 and Q8_0 have 32 values per block, with a scale
(and for Q4_1 a minimum) in float16 before the quantized values; they are computed here with torch,
because the package gguf takes several times as long. The K-quants are left to it.

Source: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from groundup.base.errors import UserError
from groundup.base.gguf import GGUFTensor

_CHUNK = 2**15 - 1
"""Values that are computed at a time. They stay in the cache between two operations, and torch does
not divide them among threads, which on a busy machine would wait for each other at each operation.
"""


def read_rows(path: Path, tensor: GGUFTensor) -> Tensor:
    """Read the bytes of a tensor, (rows, bytes per row) uint8. A vector is one row.

    Raises:
        UserError: The file cannot be read, or is shorter than it was.
    """
    try:
        found = np.fromfile(path, np.uint8, count=tensor.n_bytes, offset=tensor.start)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"This file cannot be read ({reason}).", where=path) from error
    if len(found) != tensor.n_bytes:
        raise UserError(f"The file was cut in the tensor {tensor.name!r}.", where=path)
    return torch.from_numpy(found).view(math.prod(tensor.shape[:-1]), -1)


def read_values(path: Path, tensor: GGUFTensor) -> Tensor:
    """Read the float32 values of a tensor.

    Raises:
        UserError: As `read_rows`.
    """
    return dequantized(read_rows(path, tensor), tensor.type).view(tensor.shape)


def dequantized(rows: Tensor, kind: str, out: Tensor | None = None) -> Tensor:
    """Compute the float32 values of rows of bytes, (rows, bytes per row) uint8.

    Args:
        rows: The rows.
        kind: Name of the type.
        out: Where to write the values, (rows, values per row) float32. None: a new tensor.

    >>> dequantized(torch.tensor([[0, 0x3C, 0, 0xC0]], dtype=torch.uint8), "F16")
    tensor([[ 1., -2.]])
    """
    compute, n_bytes, n_values = _TYPES[kind]
    if out is None:
        out = torch.empty(len(rows), rows.shape[1] // n_bytes * n_values)
    blocks, values = rows.view(-1, n_bytes), out.view(-1, n_values)
    each = _CHUNK // n_values
    for start in range(0, len(blocks), each):
        compute(blocks[start : start + each], values[start : start + each])
    return out


def _plain(dtype: torch.dtype, blocks: Tensor, out: Tensor) -> None:
    out.copy_(blocks.view(dtype))


def _q8_0(blocks: Tensor, out: Tensor) -> None:
    out.copy_(blocks[:, 2:].view(torch.int8)).mul_(_float16(blocks, 0))


def _q4_0(blocks: Tensor, out: Tensor) -> None:
    _nibbles(blocks[:, 2:], out)
    out.sub_(8).mul_(_float16(blocks, 0))


def _q4_1(blocks: Tensor, out: Tensor) -> None:
    _nibbles(blocks[:, 4:], out)
    out.mul_(_float16(blocks, 0)).add_(_float16(blocks, 2))


def _nibbles(packed: Tensor, out: Tensor) -> None:
    """Write the lower four bits of each byte, then the upper four bits of each."""
    half = packed.shape[1]
    out[:, :half] = packed & 15
    out[:, half:] = packed >> 4


def _float16(blocks: Tensor, start: int) -> Tensor:
    """The float16 number at a byte of each block, (blocks, 1) float32."""
    return blocks[:, start : start + 2].contiguous().view(torch.float16).float()


def _by_gguf(name: str, blocks: Tensor, out: Tensor) -> None:
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    with np.errstate(all="ignore"):  # damaged scales give infinite values, which are found later
        out.copy_(torch.from_numpy(dequantize(blocks.numpy(), GGMLQuantizationType[name])))


_TYPES: dict[str, tuple[Callable[[Tensor, Tensor], None], int, int]] = {
    "F32": (partial(_plain, torch.float32), 4, 1),
    "F16": (partial(_plain, torch.float16), 2, 1),
    "BF16": (partial(_plain, torch.bfloat16), 2, 1),
    "Q8_0": (_q8_0, 34, 32),
    "Q4_0": (_q4_0, 18, 32),
    "Q4_1": (_q4_1, 20, 32),
    "Q4_K": (partial(_by_gguf, "Q4_K"), 144, 256),
    "Q6_K": (partial(_by_gguf, "Q6_K"), 210, 256),
}
"""How to compute blocks of each type, their bytes, and their values."""
