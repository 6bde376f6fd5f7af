"""Quantized blocks have the values that the package gguf computes."""

import pytest
import torch
from peers import peer

from groundup.model.quantized import BLOCK_BYTES, QuantizedWeight


@pytest.mark.parametrize("kind", BLOCK_BYTES)
def test_blocks_equal_those_of_the_package_gguf(kind: str) -> None:
    gguf = peer("gguf")
    quants = peer("gguf.quants")
    numbers = torch.randn(6, 96, generator=torch.Generator().manual_seed(2))
    type_ = gguf.GGMLQuantizationType[kind]
    rows = quants.quantize(numbers.numpy(), type_)
    weight = QuantizedWeight.from_blocks(torch.from_numpy(rows), kind)
    expected = torch.from_numpy(quants.dequantize(rows, type_))
    torch.testing.assert_close(weight.dequantize(), expected, rtol=1e-6, atol=1e-6)
    assert weight.n_bits == int(kind[1])
    order = torch.tensor([5, 0, 3])
    torch.testing.assert_close(weight.select(order).dequantize(), weight.dequantize()[order])
    joined = QuantizedWeight.concatenate([weight, weight.select(order)])
    torch.testing.assert_close(
        joined.dequantize(), torch.cat((weight.dequantize(), weight.dequantize()[order]))
    )
