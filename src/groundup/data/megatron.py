"""Read and write Megatron's token files: NAME.bin with ids, NAME.idx with where documents are.

    NAME.idx    b"MMIDIDX\\0\\0", version 1, code of the id type, counts, int32 lengths,
                int64 byte pointers, int64 document indices

Source: Megatron-LM `indexed_dataset.py`.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundup.base.errors import UserError
from groundup.base.files import atomic_path
from groundup.data.store import TokenStore
from groundup.data.token_blocks import blocks, file_size, read_head, refuse_narrow, refuse_unknown

MEGATRON_MAGIC = b"MMIDIDX\x00\x00"
_CODES = {8: "<u2", 4: "<i4"}


def megatron_files(path: Path) -> tuple[Path, Path]:
    """The files of tokens and of the index, which begin with the same name.

    >>> [file.name for file in megatron_files(Path("corpus.v2"))]
    ['corpus.v2.bin', 'corpus.v2.idx']
    """
    prefix = path.with_suffix("") if path.suffix in (".bin", ".idx") else path
    return prefix.with_name(f"{prefix.name}.bin"), prefix.with_name(f"{prefix.name}.idx")


def write_megatron(store: TokenStore, path: Path) -> list[Path]:
    """Write both files; return their paths.

    Raises:
        UserError: The format cannot hold a document, or the path cannot be written to.
    """
    bin_path, idx_path = megatron_files(path)
    lengths = np.diff(np.append(store.document_starts, store.n_tokens))
    if lengths.max(initial=0) >= 2**31:
        raise UserError(
            f"A document has {lengths.max():,} tokens, and Megatron's format holds fewer than "
            "2**31.",
            settings={"to_format": "llmc"},
        )
    code, dtype = (8, "<u2") if store.dtype.itemsize == 2 else (4, "<i4")
    with atomic_path(bin_path) as temporary, open(temporary, "wb") as file:
        for ids in blocks(store):
            file.write(ids.astype(dtype, copy=False).tobytes())
    with atomic_path(idx_path) as temporary, open(temporary, "wb") as file:
        file.write(MEGATRON_MAGIC + struct.pack("<QB", 1, code))
        file.write(struct.pack("<QQ", len(lengths), len(lengths) + 1))
        file.write(lengths.astype("<i4").tobytes())
        file.write((store.document_starts * np.dtype(dtype).itemsize).astype("<i8").tobytes())
        file.write(np.arange(len(lengths) + 1, dtype="<i8").tobytes())
    return [bin_path, idx_path]


def read_megatron(
    path: Path, end_of_text: int | None, n_ids: int, vocab_size: int | None
) -> Iterator[NDArray[np.integer]]:
    """Read the documents, one array each; for the arguments see `read_tokens`.

    `n_ids` is the least number of ids that the vocabulary has.

    Raises:
        UserError: A file is missing or not valid, or the ids are not of this vocabulary.
    """
    bin_path, idx_path = megatron_files(path)
    head, _ = read_head(idx_path)
    if head[:9] != MEGATRON_MAGIC or len(head) < 34:
        raise UserError(
            "This is not an index file of Megatron: the first bytes are different.", where=idx_path
        )
    version, code, n_sequences, n_documents = struct.unpack_from("<QBQQ", head, 9)
    if version != 1 or code not in _CODES:
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
    dtype = np.dtype(_CODES[code])
    refuse_narrow(bin_path, dtype, n_ids)
    raw = idx_path.read_bytes()
    lengths = np.frombuffer(raw, "<i4", n_sequences, 34)
    pointers = np.frombuffer(raw, "<i8", n_sequences, 34 + 4 * n_sequences)
    documents = np.frombuffer(raw, "<i8", n_documents, 34 + 12 * n_sequences)
    _, n_bin_bytes = read_head(bin_path)
    _check_index(idx_path, lengths, pointers, documents, n_bin_bytes, dtype.itemsize)
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
        refuse_unknown(bin_path, document, int(starts[first]) if parts else 0, vocab_size)
        if end_of_text is not None and len(document) and document[-1] == end_of_text:
            document = document[:-1]
        yield document


def _check_index(
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
