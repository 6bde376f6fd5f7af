"""Read and write the token files of other projects: nanoGPT, llm.c, Megatron.

    nanoGPT     one file of uint16 ids, no header
    llm.c       256 int32 (magic 20240520, version 1, count), then uint16 ids; or 20240801, 7, u32
    Megatron    NAME.bin of ids and NAME.idx: b"MMIDIDX\\0\\0", version 1, code of the id type,
                counts, int32 lengths, int64 byte pointers, int64 document indices

Formats from the projects' own writers: nanoGPT `prepare.py`, llm.c `data_common.py`, Megatron-LM
`indexed_dataset.py`. Only Megatron's format stores document boundaries; in the others they follow
from the end-of-text id, if one is given. Everything streams: memory holds one block of ids.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from groundup.base.errors import UserError
from groundup.base.files import atomic_path
from groundup.data.store import TokenStore

Format = Literal["nanogpt", "llmc", "megatron"]

_BLOCK_TOKENS = 2**22
_LLMC_HEADER_BYTES = 256 * 4
_LLMC = {"<u2": (20240520, 1), "<u4": (20240801, 7)}
_MEGATRON_MAGIC = b"MMIDIDX\x00\x00"
_MEGATRON_CODES = {8: "<u2", 4: "<i4"}


def write_tokens(store: TokenStore, path: Path, format: Format) -> list[Path]:
    """Write a store's tokens in the format of another project; return the files.

    Raises:
        UserError: The format cannot hold the store's ids, or the path cannot be written to.
    """
    if format == "megatron":
        return _write_megatron(store, path)
    if format == "nanogpt" and store.dtype.itemsize != 2:
        raise UserError(
            f"The vocabulary has {store.vocab_size:,} tokens, and nanoGPT's format holds at most "
            "65,536. Another format is expected: llmc or megatron.",
            settings={"to_format": "llmc"},
        )
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        if format == "llmc":
            if store.n_tokens >= 2**31:
                raise UserError(
                    f"The store has {store.n_tokens:,} tokens, and llm.c's format holds fewer than "
                    "2**31.",
                    settings={"to_format": "megatron"},
                )
            header = np.zeros(256, dtype="<i4")
            header[:2], header[2] = _LLMC[store.dtype.str], store.n_tokens
            file.write(header.tobytes())
        for ids in _blocks(store):
            file.write(ids.tobytes())
    return [path]


def read_tokens(
    path: Path, format: Format, end_of_text: int | None = None
) -> Iterator[NDArray[np.integer]]:
    """Read the documents of another project's file, one array each, for `TokenStore.build`.

    Args:
        path: Token file; for Megatron the `.bin` or the `.idx` file.
        format: Format of the file.
        end_of_text: Id that ends a document; it is not part of the result. None: files of nanoGPT
            and llm.c are one document.

    Raises:
        UserError: The file is missing, truncated or in another format.
    """
    if format == "megatron":
        yield from _read_megatron(path, end_of_text)
        return
    n_bytes = file_size(path)
    offset, dtype = 0, np.dtype("<u2")
    if format == "llmc":
        offset, dtype, n_tokens = _llmc_header(path, n_bytes)
        n_bytes = n_tokens * dtype.itemsize
    elif n_bytes % 2:
        raise UserError(
            f"The file has {n_bytes:,} bytes. An even number is expected: two bytes per id.",
            where=path,
        )
    ids = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=(n_bytes // dtype.itemsize,))
    if end_of_text is None:
        yield ids
        return
    start = 0
    for block_start in range(0, len(ids), _BLOCK_TOKENS):
        block = ids[block_start : block_start + _BLOCK_TOKENS]
        for end in (np.flatnonzero(block == end_of_text) + block_start).tolist():
            yield ids[start:end]
            start = end + 1
    if start < len(ids):
        yield ids[start:]


def _llmc_header(path: Path, n_bytes: int) -> tuple[int, np.dtype[Any], int]:
    with open(path, "rb") as file:
        raw = file.read(_LLMC_HEADER_BYTES)
    header = np.frombuffer(raw, dtype="<i4") if len(raw) == _LLMC_HEADER_BYTES else np.zeros(3)
    for dtype, (magic, version) in _LLMC.items():
        if (int(header[0]), int(header[1])) == (magic, version):
            n_tokens, size = int(header[2]), np.dtype(dtype).itemsize
            if n_bytes != _LLMC_HEADER_BYTES + n_tokens * size:
                raise UserError(
                    f"The file has {n_bytes:,} bytes. According to its header "
                    f"{_LLMC_HEADER_BYTES + n_tokens * size:,} bytes are expected.",
                    where=path,
                )
            return _LLMC_HEADER_BYTES, np.dtype(dtype), n_tokens
    raise UserError("This is not a token file of llm.c: the header is different.", where=path)


def _write_megatron(store: TokenStore, path: Path) -> list[Path]:
    bin_path, idx_path = path.with_suffix(".bin"), path.with_suffix(".idx")
    lengths = np.diff(np.append(store.document_starts, store.n_tokens))
    if lengths.max(initial=0) >= 2**31:
        raise UserError(
            f"A document has {lengths.max():,} tokens, and Megatron's format holds fewer than "
            "2**31.",
            settings={"to_format": "llmc"},
        )
    code, dtype = (8, "<u2") if store.dtype.itemsize == 2 else (4, "<i4")
    with atomic_path(bin_path) as temporary, open(temporary, "wb") as file:
        for ids in _blocks(store):
            file.write(ids.astype(dtype, copy=False).tobytes())
    with atomic_path(idx_path) as temporary, open(temporary, "wb") as file:
        file.write(_MEGATRON_MAGIC + struct.pack("<QB", 1, code))
        file.write(struct.pack("<QQ", len(lengths), len(lengths) + 1))
        file.write(lengths.astype("<i4").tobytes())
        file.write((store.document_starts * np.dtype(dtype).itemsize).astype("<i8").tobytes())
        file.write(np.arange(len(lengths) + 1, dtype="<i8").tobytes())
    return [bin_path, idx_path]


def _read_megatron(path: Path, end_of_text: int | None) -> Iterator[NDArray[np.integer]]:
    bin_path, idx_path = path.with_suffix(".bin"), path.with_suffix(".idx")
    raw = memoryview(idx_path.read_bytes()) if file_size(idx_path) else memoryview(b"")
    if raw[:9] != _MEGATRON_MAGIC or len(raw) < 34:
        raise UserError(
            "This is not an index file of Megatron: the first bytes are different.", where=idx_path
        )
    version, code, n_sequences, n_documents = struct.unpack_from("<QBQQ", raw, 9)
    if version != 1 or code not in _MEGATRON_CODES:
        raise UserError(
            f"The index has version {version} and id type {code}. Version 1 with uint16 (8) or "
            "int32 (4) is expected.",
            where=idx_path,
        )
    if len(raw) != 34 + 12 * n_sequences + 8 * n_documents:
        raise UserError(
            f"The index has {len(raw):,} bytes. According to its header "
            f"{34 + 12 * n_sequences + 8 * n_documents:,} bytes are expected.",
            where=idx_path,
        )
    lengths = np.frombuffer(raw, "<i4", n_sequences, 34)
    pointers = np.frombuffer(raw, "<i8", n_sequences, 34 + 4 * n_sequences)
    documents = np.frombuffer(raw, "<i8", n_documents, 34 + 12 * n_sequences)
    dtype = np.dtype(_MEGATRON_CODES[code])
    if n_sequences and int(pointers[-1]) + int(lengths[-1]) * dtype.itemsize > file_size(bin_path):
        raise UserError("The file is shorter than its index states.", where=bin_path)
    ids = np.memmap(bin_path, dtype=dtype, mode="r")
    starts = pointers // dtype.itemsize
    for first, beyond in zip(documents[:-1].tolist(), documents[1:].tolist(), strict=True):
        here = slice(first, beyond)
        parts = [ids[s : s + n] for s, n in zip(starts[here], lengths[here], strict=True)]
        document = np.concatenate(parts) if len(parts) != 1 else parts[0]
        if end_of_text is not None and len(document) and document[-1] == end_of_text:
            document = document[:-1]
        yield document


def _blocks(store: TokenStore) -> Iterator[NDArray[np.integer]]:
    for start in range(0, store.n_tokens, _BLOCK_TOKENS):
        yield store.read(start, min(start + _BLOCK_TOKENS, store.n_tokens))


def file_size(path: Path) -> int:
    """Return the size of a file in bytes.

    Raises:
        UserError: There is no such file.
    """
    if not path.is_file():
        raise UserError("There is no such file.", where=path)
    return path.stat().st_size
