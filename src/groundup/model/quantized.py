"""Quantized weights: small integers in groups of 32, with a scale and a minimum per group."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

GROUP = 32
"""Numbers of a row that share a scale."""
BLOCK_BYTES = {"Q4_0": 18, "Q4_1": 20, "Q8_0": 34}
"""Bytes of a group in GGUF files, for each type that `from_blocks` reads."""


@dataclass(frozen=True)
class QuantizedWeight:
    """A weight (rows, columns): quant * scale + minimum.

    >>> ones = torch.ones(2, 1)
    >>> weight = QuantizedWeight(torch.full((2, 32), 3, dtype=torch.uint8), ones, -ones, n_bits=4)
    >>> weight.dequantize()[0, :3]
    tensor([2., 2., 2.])
    """

    quants: Tensor
    """(rows, columns): uint8 from 0 to 15 with 4 bits, int8 with 8 bits."""
    scales: Tensor
    """(rows, columns / 32), float32."""
    minima: Tensor
    """(rows, columns / 32), float32."""
    n_bits: int
    """4 or 8."""

    @classmethod
    def from_blocks(cls, rows: Tensor, kind: str) -> "QuantizedWeight":
        """Read the blocks of a GGUF file: rows of bytes, (rows, bytes per row) uint8.

        Source: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h
        """
        n_rows = len(rows)
        blocks = rows.reshape(n_rows, -1, BLOCK_BYTES[kind])  # (rows, groups, bytes)

        def number(start: int) -> Tensor:
            pair = blocks[:, :, start : start + 2].contiguous()
            return pair.view(torch.float16).squeeze(-1).float()  # (rows, groups)

        scales = number(0)
        if kind == "Q8_0":
            quants = blocks[:, :, 2:].contiguous().view(torch.int8).reshape(n_rows, -1)
            return cls(quants, scales, torch.zeros_like(scales), n_bits=8)
        packed = blocks[:, :, -16:]
        quants = torch.cat((packed & 15, packed >> 4), dim=2).reshape(n_rows, -1)
        minima = number(2) if kind == "Q4_1" else -8 * scales
        return cls(quants, scales, minima, n_bits=4)

    @classmethod
    def concatenate(cls, parts: Sequence["QuantizedWeight"]) -> "QuantizedWeight":
        """Join weights of the same number of bits: the rows of one after those of the other."""
        return cls(
            torch.cat([part.quants for part in parts]),
            torch.cat([part.scales for part in parts]),
            torch.cat([part.minima for part in parts]),
            n_bits=parts[0].n_bits,
        )

    def select(self, rows: Tensor) -> "QuantizedWeight":
        """Return these rows, in this order."""
        return QuantizedWeight(
            self.quants[rows], self.scales[rows], self.minima[rows], n_bits=self.n_bits
        )

    def dequantize(self) -> Tensor:
        """Compute the numbers in float32."""
        groups = self.quants.view(*self.scales.shape, GROUP).float()  # (rows, groups, 32)
        return groups.mul_(self.scales[..., None]).add_(self.minima[..., None]).flatten(1)
