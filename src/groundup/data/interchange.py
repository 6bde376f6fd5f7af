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
_OTHER_FILES = {
    _MEGATRON_MAGIC: "an index file of Megatron",
    b"\x93NUMPY": "an array file of NumPy (.npy)",
    b"PK\x03\x04": "a zip archive (.npz or .pt)",
}


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
    path: Path, format: Format, end_of_text: int | None = None, vocab_size: int | None = None
) -> Iterator[NDArray[np.integer]]:
    """Read the documents of another project's file, one array each, for `TokenStore.build`.

    Args:
        path: Token file; for Megatron the `.bin` or the `.idx` file.
        format: Format of the file.
        end_of_text: Id that ends a document; it is not part of the result. None: files of nanoGPT
            and llm.c are one document.
        vocab_size: Number of ids of the tokenizer that made them. None: not checked.

    Raises:
        UserError: The file is missing, empty, truncated or in another format, or its ids cannot be
            of this vocabulary.
    """
    path = Path(path)
    n_ids = max(vocab_size or 0, (end_of_text or 0) + 1)
    if format == "megatron":
        yield from _read_megatron(path, end_of_text, n_ids, vocab_size)
        return
    head, n_bytes = _head(path)
    offset, dtype = 0, np.dtype("<u2")
    if format == "llmc":
        offset, dtype = _llmc_header(path, head, n_bytes)
    _refuse_narrow(path, dtype, n_ids)
    if format == "nanogpt":
        _refuse_other_formats(path, head, n_bytes)
    ids = np.memmap(path, dtype=dtype, mode="r", offset=offset)
    start = 0
    for block_start in range(0, len(ids), _BLOCK_TOKENS):
        block = ids[block_start : block_start + _BLOCK_TOKENS]
        _refuse_unknown(path, block, block_start, vocab_size)
        if format == "nanogpt" and block_start == 0:
            _refuse_wider(path, block)
        if end_of_text is not None:
            for end in (np.flatnonzero(block == end_of_text) + block_start).tolist():
                yield ids[start:end]
                start = end + 1
    if start < len(ids):
        yield ids[start:]


def _head(path: Path) -> tuple[bytes, int]:
    """Return the first bytes of a token file, and its size."""
    n_bytes = file_size(path)
    try:
        with open(path, "rb") as file:
            head = file.read(_LLMC_HEADER_BYTES)
    except OSError as error:
        raise UserError(f"This file cannot be read ({error.strerror}).", where=path) from error
    if not n_bytes:
        raise UserError("The file is empty. A file of token ids is expected.", where=path)
    return head, n_bytes


def _refuse_narrow(path: Path, dtype: np.dtype[Any], n_ids: int) -> None:
    """Refuse ids of two bytes for a vocabulary that needs more: they were made by another one."""
    if dtype.itemsize == 2 and n_ids > 2**16:
        raise UserError(
            "The file is read as ids of 2 bytes, which hold a vocabulary of at most 65,536, and "
            f"this one has {n_ids:,}. The tokenizer that made the ids is expected; llm.c's and "
            "Megatron's formats also hold ids of 4 bytes.",
            where=path,
        )


def _refuse_other_formats(path: Path, head: bytes, n_bytes: int) -> None:
    """Refuse a file that is not nanoGPT's, whose ids begin at the first byte."""
    numbers = tuple(np.frombuffer(head[:8], "<i4").tolist()) if len(head) >= 8 else ()
    if numbers in _LLMC.values():
        raise UserError("This is a file of llm.c.", where=path, settings={"from_format": "llmc"})
    for beginning, what in _OTHER_FILES.items():
        if head.startswith(beginning):
            raise UserError(
                f"This is {what}. A file of 2-byte ids without a header is expected.", where=path
            )
    if n_bytes % 2:
        raise UserError(
            f"The file has {n_bytes:,} bytes. An even number is expected: two bytes per id.",
            where=path,
        )


def _refuse_wider(path: Path, block: NDArray[np.integer]) -> None:
    """Refuse ids of 4 or 8 bytes: read as 2 bytes, every other id is 0."""
    pairs = block[: len(block) // 2 * 2].reshape(-1, 2)
    zero = ~pairs.any(axis=0)
    if len(pairs) >= 4 and zero[0] != zero[1]:
        raise UserError(
            "Every other id is 0, as if the file had ids of 4 bytes. The format holds ids of 2 "
            "bytes, without a header.",
            where=path,
        )


def _refuse_unknown(
    path: Path, ids: NDArray[np.integer], first: int, vocab_size: int | None
) -> None:
    if vocab_size is None or not len(ids):
        return
    if int(ids.max()) >= vocab_size or int(ids.min()) < 0:
        at = int(np.flatnonzero((ids >= vocab_size) | (ids < 0))[0])
        raise UserError(
            f"Token {first + at:,} has the id {int(ids[at]):,}. Ids from 0 to {vocab_size - 1:,} "
            "are expected: those of the tokenizer that made the file.",
            where=path,
        )


def _llmc_header(path: Path, head: bytes, n_bytes: int) -> tuple[int, np.dtype[Any]]:
    """Return where the ids of a file of llm.c begin, and their type."""
    header = np.frombuffer(head, "<i4") if len(head) == _LLMC_HEADER_BYTES else np.zeros(3)
    for name, (magic, version) in _LLMC.items():
        if int(header[0]) != magic:
            continue
        if int(header[1]) != version:
            raise UserError(
                f"The header has version {int(header[1])}. Version {version} is expected.",
                where=path,
            )
        dtype, n_tokens = np.dtype(name), int(header[2])
        if n_tokens < 1:
            raise UserError(
                f"The header states {n_tokens} tokens. At least one is expected.", where=path
            )
        expected = _LLMC_HEADER_BYTES + n_tokens * dtype.itemsize
        if n_bytes != expected:
            raise UserError(
                f"The file has {n_bytes:,} bytes. According to its header {expected:,} bytes are "
                "expected.",
                where=path,
            )
        return _LLMC_HEADER_BYTES, dtype
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


def _read_megatron(
    path: Path, end_of_text: int | None, n_ids: int, vocab_size: int | None
) -> Iterator[NDArray[np.integer]]:
    bin_path, idx_path = path.with_suffix(".bin"), path.with_suffix(".idx")
    head, _ = _head(idx_path)
    if head[:9] != _MEGATRON_MAGIC or len(head) < 34:
        raise UserError(
            "This is not an index file of Megatron: the first bytes are different.", where=idx_path
        )
    version, code, n_sequences, n_documents = struct.unpack_from("<QBQQ", head, 9)
    if version != 1 or code not in _MEGATRON_CODES:
        raise UserError(
            f"The index has version {version} and id type {code}. Version 1 with uint16 (8) or "
            "int32 (4) is expected.",
            where=idx_path,
        )
    expected = 34 + 12 * n_sequences + 8 * n_documents
    if (n_bytes := file_size(idx_path)) != expected:
        raise UserError(
            f"The index has {n_bytes:,} bytes. According to its header {expected:,} bytes are "
            "expected.",
            where=idx_path,
        )
    dtype = np.dtype(_MEGATRON_CODES[code])
    _refuse_narrow(bin_path, dtype, n_ids)
    raw = idx_path.read_bytes()
    lengths = np.frombuffer(raw, "<i4", n_sequences, 34)
    pointers = np.frombuffer(raw, "<i8", n_sequences, 34 + 4 * n_sequences)
    documents = np.frombuffer(raw, "<i8", n_documents, 34 + 12 * n_sequences)
    _, n_bin_bytes = _head(bin_path)
    _check_megatron_index(idx_path, lengths, pointers, documents, n_bin_bytes, dtype.itemsize)
    n_tokens = int(lengths.sum(dtype=np.int64))
    if n_tokens * dtype.itemsize != n_bin_bytes:
        raise UserError(
            f"The file has {n_bin_bytes:,} bytes and is "
            f"{'longer' if n_tokens * dtype.itemsize < n_bin_bytes else 'shorter'} than its index "
            f"states: {n_tokens:,} ids of {dtype.itemsize} bytes.",
            where=bin_path,
        )
    ids = np.memmap(bin_path, dtype=dtype, mode="r")
    starts = pointers // dtype.itemsize
    for first, beyond in zip(documents[:-1].tolist(), documents[1:].tolist(), strict=True):
        here = slice(first, beyond)
        parts = [ids[s : s + n] for s, n in zip(starts[here], lengths[here], strict=True)]
        document = parts[0] if len(parts) == 1 else np.concatenate([ids[:0], *parts])
        _refuse_unknown(bin_path, document, int(starts[first]) if parts else 0, vocab_size)
        if end_of_text is not None and len(document) and document[-1] == end_of_text:
            document = document[:-1]
        yield document


def _check_megatron_index(
    path: Path,
    lengths: NDArray[np.int32],
    pointers: NDArray[np.int64],
    documents: NDArray[np.int64],
    n_bytes: int,
    itemsize: int,
) -> None:
    """Check that the sequences are in the file, and that the documents are all sequences."""
    if not len(lengths):
        raise UserError("The index states no sequences.", where=path)
    beyond = n_bytes // itemsize - lengths  # as the first id; no product that could overflow
    wrong = (lengths < 0) | (pointers < 0) | (pointers % itemsize != 0)
    wrong |= pointers // itemsize > beyond
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise UserError(
            f"Sequence {at} has {lengths[at]} ids from byte {pointers[at]} on, and the file of ids "
            f"is shorter or begins elsewhere: it has {n_bytes:,} bytes.",
            where=path,
        )
    if (
        len(documents) < 2
        or documents[0] != 0
        or documents[-1] != len(lengths)
        or (documents[1:] < documents[:-1]).any()
    ):
        raise UserError(
            f"The documents do not consist of the {len(lengths):,} sequences, in order.", where=path
        )


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
