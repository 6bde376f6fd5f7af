"""The header of a GGUF file: its metadata, and where its tensors are.

A file from elsewhere is not trusted: every length is compared with what is left of the file before
anything is read or allocated. The tensors themselves are not read here.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3.
"""

import itertools
import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from groundup.base.errors import UserError

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MOST_DIMENSIONS = 4
_LARGEST_ALIGNMENT = 2**16
_MOST_NESTED = 1
_LONGEST_NAME = 2**16
_LONGEST_TENSOR_NAME = 256
_LONGEST_TEXT = 2**24
"""Bytes of a value. The longest in use are chat templates, of some 100 kB."""
_LONGEST_ARRAY = 2**22
"""Values of an array. The largest vocabularies have some 300,000 tokens."""

_SCALARS = {
    0: ("B", "u1"), 1: ("b", "i1"), 2: ("H", "u2"), 3: ("h", "i2"), 4: ("I", "u4"),
    5: ("i", "i4"), 6: ("f", "f4"), 7: ("?", "u1"), 10: ("Q", "u8"), 11: ("q", "i8"),
    12: ("d", "f8"),
}  # fmt: skip
"""Types of values: their number in the file, their format for struct, and for numpy."""
_STRING, _ARRAY = 8, 9
_LENGTH = struct.Struct("<Q")

TENSOR_TYPES = {
    # number: (name, values in a block, bytes of a block)
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20),
    8: ("Q8_0", 32, 34), 12: ("Q4_K", 256, 144), 14: ("Q6_K", 256, 210), 30: ("BF16", 1, 2),
}  # fmt: skip
"""Types of tensors that can be read."""
_OTHER_TYPES = {
    6: "Q5_0", 7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 13: "Q5_K", 15: "Q8_K",
    16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
    22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M",
    34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GGUFTensor:
    """Where a tensor is in the file, and how it is stored."""

    name: str
    shape: tuple[int, ...]
    """The shape as torch has it: the last dimension is contiguous. The file has it reversed."""
    type: str
    """One of the names in TENSOR_TYPES."""
    start: int
    """Position of the first byte in the file."""
    n_bytes: int


@dataclass(frozen=True, kw_only=True)
class GGUFHeader:
    """The header of a GGUF file."""

    path: Path
    metadata: Mapping[str, Any]
    """Values by key: numbers, booleans, strings, lists of strings, and numpy arrays of numbers."""
    tensors: Mapping[str, GGUFTensor]
    """Tensors by name, in the order of the file."""


def is_gguf(path: Path) -> bool:
    """Whether a file begins as GGUF files do."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(4) == MAGIC


def read_gguf_header(path: Path | str) -> GGUFHeader:
    """Read the metadata and the list of tensors.

    Raises:
        UserError: The file is missing, cut, no GGUF file, or contradicts itself; the message names
            the key or the tensor.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # opening a pipe would wait for a writer
        raise UserError("This is no file. A GGUF file is expected.", where=path)
    try:
        with open(path, "rb") as file:
            if not is_gguf(path):
                _Reader(path, file.read(4)).refuse_start()
            # Mapped, because the header of a file without an end may be as long as the file.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Reader(path, data).read()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"This file cannot be read ({reason}).", where=path) from error


class _Reader:
    """Reads the header from its beginning, with a place that only moves forward."""

    def __init__(self, path: Path, data: bytes | mmap.mmap) -> None:
        self.path, self.data, self.size = path, data, len(data)
        self.at = 4

    def refuse_start(self) -> NoReturn:
        self.refuse(f"The file begins with {self.data[:4]!r}. A GGUF file begins with {MAGIC!r}.")

    def read(self) -> GGUFHeader:
        version = self.scalar("I", "the version")
        if version not in _VERSIONS:
            self.refuse(
                f"The GGUF version is {version}. Little-endian files of version 2 or 3 are "
                "expected."
            )
        n_tensors = self.scalar("Q", "the number of tensors")
        n_keys = self.scalar("Q", "the number of keys")
        # The smallest key takes 13 bytes and the smallest tensor 24.
        self.check_fits(n_keys, 13, f"The file states {n_keys:,} keys")
        metadata: dict[str, Any] = {}
        for number in range(n_keys):
            key = self.string(f"the name of key {number}", _LONGEST_NAME)
            if key in metadata:
                self.refuse(f"The key {_shown(key)} occurs twice.")
            metadata[key] = self.value(self.scalar("I", f"the type of {_shown(key)}"), key)
        self.check_fits(n_tensors, 24, f"The file states {n_tensors:,} tensors")
        entries = [self.tensor(number) for number in range(n_tensors)]
        alignment = metadata.get("general.alignment", 32)
        is_power = isinstance(alignment, int) and alignment > 0 and alignment.bit_count() == 1
        if not is_power or alignment > _LARGEST_ALIGNMENT:
            self.refuse(
                f"general.alignment is {alignment!r}. A power of two up to {_LARGEST_ALIGNMENT:,} "
                "is expected."
            )
        start = -(-self.at // alignment) * alignment
        tensors: dict[str, GGUFTensor] = {}
        for name, shape, kind, offset in entries:
            if name in tensors:
                self.refuse(f"The tensor {name!r} occurs twice.")
            tensors[name] = self.placed(name, shape, kind, start + offset)
        self.check_apart(tensors)
        return GGUFHeader(path=self.path, metadata=metadata, tensors=tensors)

    def tensor(self, number: int) -> tuple[str, tuple[int, ...], int, int]:
        name = self.string(f"the name of tensor {number}", _LONGEST_TENSOR_NAME)
        what = f"the tensor {name!r}"
        n_dimensions = self.scalar("I", what)
        if n_dimensions > _MOST_DIMENSIONS:
            self.refuse(
                f"The tensor {name!r} has {n_dimensions:,} dimensions. At most {_MOST_DIMENSIONS} "
                "are expected."
            )
        shape = tuple(self.scalar("Q", what) for _ in range(n_dimensions))
        return name, shape[::-1], self.scalar("I", what), self.scalar("Q", what)

    def check_apart(self, tensors: Mapping[str, GGUFTensor]) -> None:
        in_order = sorted(tensors.values(), key=lambda tensor: tensor.start)
        for before, after in itertools.pairwise(in_order):
            if after.start < before.start + before.n_bytes:
                self.refuse(
                    f"The tensor {after.name!r} begins at byte {after.start:,}, inside of the "
                    f"tensor {before.name!r}."
                )

    def placed(self, name: str, shape: tuple[int, ...], kind: int, start: int) -> GGUFTensor:
        if kind not in TENSOR_TYPES:
            known = ", ".join(each for each, _, _ in TENSOR_TYPES.values())
            self.refuse(
                f"The tensor {name!r} is of type {_OTHER_TYPES.get(kind, kind)}. "
                f"{known} are supported."
            )
        type_name, block, block_bytes = TENSOR_TYPES[kind]
        if shape and shape[-1] % block:
            self.refuse(
                f"The tensor {name!r} has the shape {shape}, and a row of type {type_name} has a "
                f"multiple of {block} values."
            )
        n_bytes = math.prod(shape) // block * block_bytes
        if start + n_bytes > self.size:
            self.refuse(
                f"The tensor {name!r} ends at byte {start + n_bytes:,}, and the file has "
                f"{self.size:,} bytes. It is cut: a complete copy is expected."
            )
        return GGUFTensor(name=name, shape=shape, type=type_name, start=start, n_bytes=n_bytes)

    def value(self, kind: int, key: str, depth: int = 0) -> Any:
        shown = _shown(key)
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind][0], f"the value of {shown}")
        if kind == _STRING:
            return self.string(f"the value of {shown}", _LONGEST_TEXT)
        if kind != _ARRAY or depth >= _MOST_NESTED:
            self.refuse(f"The value of {shown} is of type {kind}, which is not supported.")
        item = self.scalar("I", f"the array {shown}")
        length = self.scalar("Q", f"the array {shown}")
        stated = f"The array {shown} states {length:,} values"
        if length > _LONGEST_ARRAY:
            self.refuse(f"{stated}. At most {_LONGEST_ARRAY:,} are expected.")
        if item == _STRING:
            self.check_fits(length, 8, stated)
            found = self.intact_strings(length)
            if found is not None:
                return found
            return [self.string(f"the array {shown}", _LONGEST_NAME) for _ in range(length)]
        if item in _SCALARS:
            dtype = np.dtype(_SCALARS[item][1]).newbyteorder("<")
            self.check_fits(length, dtype.itemsize, stated)
            start, self.at = self.at, self.at + length * dtype.itemsize
            return np.frombuffer(self.data[start : self.at], dtype)
        return self.value(item, key, depth + 1)

    def scalar(self, form: str, what: str) -> Any:
        n_bytes = struct.calcsize(f"<{form}")
        self.check_fits(n_bytes, 1, f"It is cut in {what}")
        (value,) = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += n_bytes
        return value

    def string(self, what: str, longest: int) -> str:
        length = self.scalar("Q", what)
        stated = f"The file states {length:,} bytes for {what}"
        if length > longest:
            self.refuse(f"{stated}. At most {longest:,} are expected.")
        self.check_fits(length, 1, stated)
        start, self.at = self.at, self.at + length
        raw = self.data[start : self.at]
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{what[0].upper()}{what[1:]} is not UTF-8 ({raw[:40]!r}).", where=self.path
            ) from error

    def intact_strings(self, length: int) -> list[str] | None:
        """Read many strings fast; None, and no move forward, if one of them is damaged."""
        data, at, size = self.data, self.at, self.size
        found = []
        try:
            for _ in range(length):
                start = at + _LENGTH.size
                at = start + _LENGTH.unpack_from(data, at)[0]
                if at > min(size, start + _LONGEST_NAME):
                    return None
                found.append(data[start:at].decode("utf-8"))
        except (struct.error, UnicodeDecodeError):
            return None
        self.at = at
        return found

    def check_fits(self, n: int, bytes_each: int, stated: str) -> None:
        left = self.size - self.at
        if n * bytes_each > left:
            self.refuse(f"{stated}, and {left:,} bytes are left. A complete GGUF file is expected.")

    def refuse(self, message: str) -> NoReturn:
        raise UserError(message, where=self.path)


def _shown(key: str) -> str:
    """A key as a message shows it.

    >>> _shown("a" * 100)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...'"
    """
    return repr(key if len(key) <= 60 else f"{key[:60]}...")
