"""Files of tensors, read and written one tensor at a time.

The library of safetensors writes all tensors at once and reads through a memory map, so its memory
follows the size of the model. Here a tensor is read when it is asked for. A file from elsewhere is
not trusted: every length is compared with the size of the file before anything is allocated.

Source: https://github.com/huggingface/safetensors#format
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from groundup.base.errors import UserError

_LONGEST_HEADER = 100_000_000
_WIDEST_OFFSET = 10**18
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """A tensor in a file, which is read when it is asked for."""

    name: str
    path: Path
    type: str
    """The name of the data type in the file: F32, BF16, ..."""
    shape: tuple[int, ...]
    start: int
    """Position of the first byte in the file."""
    n_bytes: int

    def read(self) -> Tensor:
        """Read the tensor.

        Raises:
            UserError: The file was cut since its header was read.
        """
        data = torch.empty(self.n_bytes, dtype=torch.uint8)
        with open(self.path, "rb") as file:
            file.seek(self.start)
            n_read = file.readinto(data.numpy().data)
        if n_read != self.n_bytes:
            raise UserError(f"The file ends inside of the tensor {self.name!r}.", where=self.path)
        return data.view(_DTYPES[self.type]).reshape(self.shape)


def read_header(path: Path) -> dict[str, StoredTensor]:
    """List the tensors of a safetensors file by name.

    Raises:
        UserError: The file is missing, cut, not in this format, or contradicts itself.
    """
    return read_header_and_metadata(path)[0]


def read_header_and_metadata(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """List the tensors of a safetensors file by name, and the texts that its writer added.

    Raises:
        UserError: The file is missing, cut, not in this format, or contradicts itself.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _LONGEST_HEADER):
                _refuse(path, f"its header has {length:,} bytes, and the file {size:,}")
            text = file.read(length)
    except FileNotFoundError as error:
        raise UserError("This file is missing.", where=path) from error
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"This file cannot be read ({reason}).", where=path) from error
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        _refuse(path, "its header is not JSON")
    if not isinstance(header, dict):
        _refuse(path, "its header is not a JSON object")
    metadata = header.pop("__metadata__", None)
    metadata = metadata if isinstance(metadata, dict) else {}
    first = 8 + length
    tensors = {name: _entry(path, name, about, first, size) for name, about in header.items()}
    return tensors, {name: text for name, text in metadata.items() if isinstance(text, str)}


def _entry(path: Path, name: str, about: Any, first: int, size: int) -> StoredTensor:
    shown = repr(name if len(name) <= 100 else f"{name[:100]}...")
    try:
        kind, shape, (start, stop) = about["dtype"], tuple(about["shape"]), about["data_offsets"]
        numbers = (*shape, start, stop)
        is_valid = all(type(n) is int and n >= 0 for n in numbers) and isinstance(kind, str)
    except (TypeError, KeyError, ValueError):
        is_valid = False
    if not is_valid:
        _refuse(path, f"the entry of the tensor {shown} is invalid")
    if kind not in _DTYPES:
        raise UserError(
            f"The tensor {shown} is of type {kind}. {', '.join(_DTYPES)} are supported.",
            where=path,
        )
    n_bytes = math.prod(shape) * _DTYPES[kind].itemsize
    if stop - start != n_bytes:
        _refuse(
            path,
            f"the tensor {shown} of shape {shape} and type {kind} has {stop - start:,} bytes "
            f"instead of {n_bytes:,}",
        )
    if first + stop > size:
        raise UserError(
            f"The tensor {shown} ends at byte {first + stop:,}, and the file has {size:,} bytes. "
            "It is cut: a complete copy is expected.",
            where=path,
        )
    return StoredTensor(
        name=name, path=path, type=kind, shape=shape, start=first + start, n_bytes=n_bytes
    )


def _refuse(path: Path, reason: str) -> NoReturn:
    raise UserError(f"This is not a valid safetensors file: {reason}.", where=path)


def write_tensors(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Mapping[str, Callable[[], Tensor]],
) -> dict[str, str]:
    """Write a safetensors file; only one tensor is in memory at a time.

    The header comes first in the file, and is known last: room is left for it.

    Args:
        path: The file; the caller makes sure that it is complete or absent.
        shapes: The shape of each tensor.
        tensors: For each name a function that returns the tensor, in a floating-point type.

    Returns:
        The SHA-256 of the bytes of each tensor.

    Raises:
        OSError: The file cannot be written.
    """
    widest = [_WIDEST_OFFSET] * 2
    longest = {n: _described("BF16", shape, widest) for n, shape in shapes.items()}
    n_header = -(-len(_header(longest)) // 8) * 8
    entries: dict[str, Any] = {}
    hashes: dict[str, str] = {}
    end = 0
    with open(path, "wb") as file:
        file.write((n_header).to_bytes(8, "little"))
        file.write(b" " * n_header)
        for name, shape in shapes.items():
            tensor = tensors[name]().contiguous()
            assert tuple(tensor.shape) == shape, name
            if tensor.numel() * tensor.itemsize % 4:
                tensor = tensor.float()  # readers expect the next tensor at a multiple of 4
            data = tensor.reshape(-1).view(torch.uint8).numpy().data
            hashes[name] = hashlib.sha256(data).hexdigest()
            file.write(data)
            entries[name] = _described(_NAMES[tensor.dtype], shape, [end, end + len(data)])
            end += len(data)
            del tensor, data  # before the next one is read
        file.seek(8)
        file.write(_header(entries))
    return hashes


def _described(kind: str, shape: tuple[int, ...], offsets: list[int]) -> dict[str, Any]:
    return {"dtype": kind, "shape": list(shape), "data_offsets": offsets}


def _header(entries: dict[str, Any]) -> bytes:
    return json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
