"""Open a GGUF file, the format of llama.cpp: its config, its weights, and its quantized rows.

The architectures of `gguf_names.FAMILIES` and the types of `groundup.base.gguf.TENSOR_TYPES` are
read. Everything is checked against the header before a tensor is read, and tensors are read one at
a time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from groundup.base.errors import UserError
from groundup.base.gguf import GGUFHeader, read_gguf_header
from groundup.weights.gguf_blocks import dequantized, read_rows
from groundup.weights.gguf_config import config_of
from groundup.weights.gguf_metadata import special_ids_of
from groundup.weights.gguf_names import ROPE_FREQS, Part, parts_of
from groundup.weights.pretrained import Pretrained


@dataclass(frozen=True, kw_only=True)
class RawRows:
    """Rows of one of our parameters as the file has them, in the order of ours."""

    type: str
    """F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K or Q6_K."""
    shape: tuple[int, ...]
    """The shape of the values: (rows, columns), or (values,) of a vector."""
    rows: Tensor
    """The bytes, (rows, bytes per row) uint8. A vector is one row."""

    def values(self) -> Tensor:
        """Compute the values in float32."""
        return dequantized(self.rows, self.type).view(self.shape)


def open_gguf(path: Path | str) -> Pretrained:
    """Read what the file states, and check that its tensors fit; they are read when called for.

    Raises:
        UserError: The file is no GGUF file, or damaged, or the model is one that is not supported.
            The message names the key or the tensor.
    """
    header = read_gguf_header(path)
    family, config = config_of(header)
    parts = parts_of(config, family)
    _check_tensors(header, family, parts)
    license_name = header.metadata.get("general.license")
    return Pretrained(
        config=config,
        family=family,
        tensors={our: partial(_read_values, header, of) for our, of in parts.items()},
        special_ids=special_ids_of(header.metadata, header.path),
        files=(header.path,),
        license=license_name if isinstance(license_name, str) else None,
    )


def raw_blocks(path: Path | str) -> Mapping[str, Callable[[], tuple[RawRows, ...]]]:
    """Give the function that reads the rows of each of our parameters without computing values.

    A parameter has several parts where the file has several tensors, which may be of different
    types: queries, keys and values, or the gate and the other half of an MLP. Their rows follow one
    another.

    Raises:
        UserError: As `open_gguf`.
    """
    header = read_gguf_header(path)
    family, config = config_of(header)
    parts = parts_of(config, family)
    _check_tensors(header, family, parts)
    return {our: partial(_read_rows, header, of) for our, of in parts.items()}


def _check_tensors(header: GGUFHeader, family: str, parts: Mapping[str, tuple[Part, ...]]) -> None:
    """Check the name and shape of every tensor.

    Raises:
        UserError: One is missing, unexpected, or of another shape than the config says.
    """
    expected = {part.name: part.shape for of in parts.values() for part in of}
    for name, shape in expected.items():
        found = header.tensors.get(name)
        if found is None:
            raise UserError(
                f"The tensor {name!r} is missing. The metadata asks for one of shape {shape}.",
                where=header.path,
            )
        if found.shape != shape:
            raise UserError(
                f"The tensor {name!r} has the shape {found.shape}. The metadata asks for {shape}.",
                where=header.path,
            )
    known = {*expected, *(() if family != "llama" else (ROPE_FREQS,))}
    extra = next((name for name in header.tensors if name not in known), None)
    if extra is not None:
        raise UserError(
            f"The tensor {extra!r} is not supported. The model could be computed wrongly.",
            where=header.path,
        )


def _read_rows(header: GGUFHeader, parts: tuple[Part, ...]) -> tuple[RawRows, ...]:
    read = []
    for part in parts:
        tensor = header.tensors[part.name]
        rows = read_rows(header.path, tensor)
        order = part.order()
        if order is not None:
            # A bias is one row of values, whose bytes are those of its rows.
            rows = rows.view(len(order), -1)[order].view(rows.shape)
        read.append(RawRows(type=tensor.type, shape=tensor.shape, rows=rows))
    return tuple(read)


def _read_values(header: GGUFHeader, parts: tuple[Part, ...]) -> Tensor:
    if len(parts) == 1 and header.tensors[parts[0].name].type == "F32":
        (only,) = _read_rows(header, parts)
        return only.rows.view(torch.float32).view(only.shape)  # no copy
    n_rows = [part.shape[0] for part in parts]
    values = torch.empty(sum(n_rows), *parts[0].shape[1:])
    for out, raw in zip(torch.split(values, n_rows), _read_rows(header, parts), strict=True):
        dequantized(raw.rows, raw.type, out.view(len(raw.rows), -1))
    return values
