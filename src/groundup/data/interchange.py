"""Read and write the token files of other projects: nanoGPT, llm.c, Megatron.

    nanoGPT     one file of uint16 ids, no header
    llm.c       256 int32 (magic 20240520, version 1, count), then uint16 ids; or 20240801, 7, u32
    Megatron    NAME.bin of ids and NAME.idx: b"MMIDIDX\\0\\0", version 1, code of the id type,
                counts, int32 lengths, int64 byte pointers, int64 document indices

Formats from the projects' own writers: nanoGPT `prepare.py`, llm.c `data_common.py`, Megatron-LM
`indexed_dataset.py`. Only Megatron's format stores document boundaries; in the others they follow
from the end-of-text id, if one is given. Everything streams: memory holds one block of ids.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from groundup.base.errors import UserError
from groundup.base.files import atomic_path
from groundup.data.megatron import MEGATRON_MAGIC, read_megatron, write_megatron
from groundup.data.store import TokenStore
from groundup.data.token_blocks import (
    BLOCK_TOKENS,
    blocks,
    read_head,
    refuse_narrow,
    refuse_unknown,
)

Format = Literal["nanogpt", "llmc", "megatron"]

_HEADER_BYTES = 256 * 4
_LLMC = {"<u2": (20240520, 1), "<u4": (20240801, 7)}
_OTHER_FILES = {
    MEGATRON_MAGIC: "an index file of Megatron",
    b"\x93NUMPY": "an array file of NumPy (.npy)",
    b"PK\x03\x04": "a zip archive (.npz or .pt)",
}


def write_tokens(store: TokenStore, path: Path, format: Format) -> list[Path]:
    """Write a store's tokens in the format of another project; return the files.

    Raises:
        UserError: The format cannot hold the store's ids, or the path cannot be written to.
    """
    if format == "megatron":
        return write_megatron(store, path)
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
        for ids in blocks(store):
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
        yield from read_megatron(path, end_of_text, n_ids, vocab_size)
        return
    head, n_bytes = read_head(path)
    offset, dtype = 0, np.dtype("<u2")
    if format == "llmc":
        offset, dtype = _llmc_header(path, head, n_bytes)
    refuse_narrow(path, dtype, n_ids)
    if format == "nanogpt":
        _refuse_other_formats(path, head, n_bytes)
    ids = np.memmap(path, dtype=dtype, mode="r", offset=offset)
    start = 0
    for block_start in range(0, len(ids), BLOCK_TOKENS):
        block = ids[block_start : block_start + BLOCK_TOKENS]
        refuse_unknown(path, block, block_start, vocab_size)
        if format == "nanogpt" and block_start == 0:
            _refuse_wider(path, block)
        if end_of_text is not None:
            for end in (np.flatnonzero(block == end_of_text) + block_start).tolist():
                yield ids[start:end]
                start = end + 1
    if start < len(ids):
        yield ids[start:]


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
    n_even, n_odd = (int(np.count_nonzero(pairs[:, side])) for side in (0, 1))
    if len(pairs) >= 4 and (n_even == 0) != (n_odd == 0):
        raise UserError(
            "Every other id is 0, as if the file had ids of 4 bytes. The format holds ids of 2 "
            "bytes, without a header.",
            where=path,
        )


def _llmc_header(path: Path, head: bytes, n_bytes: int) -> tuple[int, np.dtype[Any]]:
    """Return where the ids of a file of llm.c begin, and their type."""
    header = np.frombuffer(head, "<i4") if len(head) == _HEADER_BYTES else np.zeros(3)
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
        expected = _HEADER_BYTES + n_tokens * dtype.itemsize
        if n_bytes != expected:
            raise UserError(
                f"The file has {n_bytes:,} bytes. According to its header {expected:,} bytes are "
                "expected.",
                where=path,
            )
        return _HEADER_BYTES, dtype
    raise UserError("This is not a token file of llm.c: the header is different.", where=path)
