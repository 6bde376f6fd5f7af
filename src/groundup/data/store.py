"""The token store: a folder of raw token shards that any memory map can read, and its manifest.

    tokens-00000.bin ...   little-endian ids, uint16 while every id fits, else uint32; no header
    documents.npy          int64, index of the first token of each document
    manifest.json          format version, counts, checksums, the tokenizer's fingerprint, sources

A store is written under a temporary name and renamed as the last step, so an incomplete store never
opens.
"""

import mmap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.base.errors import UserError
from groundup.base.files import atomic_folder, in_place, sha256_bytes, sha256_file
from groundup.data.gather import gather_rows
from groundup.data.manifest import (
    FORMAT_VERSION,
    HEADER_BYTES,
    damaged,
    is_store,
    read_manifest,
    write_manifest,
)
from groundup.data.token_files import BUFFER_TOKENS, ShardWriter, starts_header

SHARD_TOKENS = 2**27
"""Tokens per shard: 256 MiB of uint16."""
_MAPPED_WHOLE_BYTES = 2**29
"""Up to this size a store stays mapped; of a larger one, pages are released."""
_MOST_ROWS_MAPPED = 2**10
_MAPPED_BY_A_ROW_BYTES = 2**16

EncodedPart = tuple[NDArray[np.integer], NDArray[np.int64]]
"""Consecutive ids, and the positions among them where documents start."""


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """Return the type of a vocabulary's ids: uint16 while the largest id fits, else uint32.

    >>> token_dtype(65_536).name, token_dtype(65_537).name
    ('uint16', 'uint32')
    """
    return np.dtype("<u2") if vocab_size <= 2**16 else np.dtype("<u4")


class TokenStore:
    """A corpus of token ids on disk, read through memory maps; memory does not grow with it.

    Args:
        folder: The folder of the store.
        manifest: Its checked manifest. None: read it, as `open` does.

    Raises:
        UserError: As for `open`.
    """

    def __init__(self, folder: Path | str, manifest: dict[str, Any] | None = None) -> None:
        folder = Path(folder)
        manifest = read_manifest(folder) if manifest is None else manifest
        self.folder, self.manifest = folder, manifest
        self.n_tokens: int = manifest["n_tokens"]
        self.n_documents: int = manifest["n_documents"]
        self.vocab_size: int = manifest["vocab_size"]
        self.tokenizer_fingerprint: str = manifest["tokenizer_fingerprint"]
        self.dtype = np.dtype(manifest["dtype"])
        self._maps = [_map(folder / shard["file"]) for shard in manifest["shards"]]
        if self.n_bytes > _MAPPED_WHOLE_BYTES and hasattr(mmap, "MADV_RANDOM"):
            for map_ in self._maps:
                map_.madvise(mmap.MADV_RANDOM)  # rows are random: reading ahead would be wasted
        self._shards = [np.frombuffer(map_, dtype=self.dtype) for map_ in self._maps]
        self._n_rows_mapped = 0
        lengths = [shard["n_tokens"] for shard in manifest["shards"]]
        self._starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    def __repr__(self) -> str:
        return (
            f"TokenStore({str(self.folder)!r}: {self.n_tokens:,} tokens, "
            f"{self.n_documents:,} documents, vocabulary {self.vocab_size:,})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a path: pickling the memory maps would copy the corpus."""
        return (TokenStore.open, (self.folder,))

    @classmethod
    def build(
        cls,
        folder: Path | str,
        documents: Iterable[Sequence[int] | NDArray[np.integer]],
        *,
        vocab_size: int,
        tokenizer_fingerprint: str,
        end_of_text: int | None,
        sources: Sequence[str] = (),
        shard_tokens: int = SHARD_TOKENS,
    ) -> "TokenStore":
        """Write the ids of documents, one after another, each followed by `end_of_text`.

        Memory holds one document and a buffer, whatever the size of the corpus. An existing store
        in this folder is replaced; a folder that holds anything else is left unchanged.

        Raises:
            UserError: There are no tokens, an id is no whole number or outside the vocabulary, or
                the folder cannot be written to or holds something that is not a store.
        """
        dtype = token_dtype(vocab_size)

        def parts() -> Iterator[EncodedPart]:
            closing = np.array([] if end_of_text is None else [end_of_text], dtype=dtype)
            for number, document in enumerate(documents):
                ids = np.asarray(document if len(document) else closing[:0])
                if ids.dtype.kind not in "iu" and ids.size:
                    raise UserError(
                        f"Document {number} is an array of type {ids.dtype}. Token ids are whole "
                        "numbers.",
                        where=folder,
                    )
                # In blocks: astype would copy all of a large document at once.
                for begin in range(0, max(1, len(ids)), BUFFER_TOKENS):
                    block = ids[begin : begin + BUFFER_TOKENS]
                    misfits = block[(block < 0) | (block >= vocab_size)]
                    if misfits.size:
                        raise UserError(
                            f"Document {number} contains the id {int(misfits[0])}. Ids from 0 to "
                            f"{vocab_size - 1} are expected.",
                            where=folder,
                        )
                    starts = np.zeros(int(begin == 0), dtype=np.int64)
                    yield block.astype(dtype, copy=False), starts
                yield closing, np.empty(0, dtype=np.int64)

        return cls.build_from_parts(
            folder,
            parts(),
            vocab_size=vocab_size,
            tokenizer_fingerprint=tokenizer_fingerprint,
            end_of_text=end_of_text,
            sources=sources,
            shard_tokens=shard_tokens,
        )

    @classmethod
    def build_from_parts(
        cls,
        folder: Path | str,
        parts: Iterable[EncodedPart],
        *,
        vocab_size: int,
        tokenizer_fingerprint: str,
        end_of_text: int | None,
        sources: Sequence[str] = (),
        shard_tokens: int = SHARD_TOKENS,
    ) -> "TokenStore":
        """Write ids that are already encoded, part by part, in order and in the store's type.

        Raises:
            UserError: As for `build`.
        """
        goal = Path(folder)
        if goal.is_dir() and any(goal.iterdir()) and not is_store(goal):
            raise UserError(
                "This folder contains other files than a token store, and they are not "
                "overwritten. An empty or new folder is expected.",
                where=goal,
            )
        table = {
            "format_version": FORMAT_VERSION,
            "dtype": token_dtype(vocab_size).str,
            "vocab_size": vocab_size,
            "end_of_text": end_of_text,
            "tokenizer_fingerprint": tokenizer_fingerprint,
            "shard_tokens": shard_tokens,
        }
        with atomic_folder(goal) as temporary:
            writer = ShardWriter(temporary, token_dtype(vocab_size), shard_tokens)
            _write(writer, parts, goal)
            write_manifest(temporary, table, writer, sources)
        return cls.open(goal)

    def append_parts(
        self, parts: Iterable[EncodedPart], *, sources: Sequence[str] = ()
    ) -> "TokenStore":
        """Append ids in new shards and return the longer store.

        Existing shards do not change, and the old manifest is valid until the new one replaces it.

        Raises:
            UserError: The folder cannot be written to, or the disk is full.
        """
        with in_place(self.folder, "the store is as it was"):
            writer = ShardWriter(
                self.folder,
                self.dtype,
                self.manifest["shard_tokens"],
                after=self.manifest["shards"],
                document_starts=self.document_starts,
            )
            _write(writer, parts, self.folder)
            write_manifest(self.folder, self.manifest, writer, sources)
        return TokenStore.open(self.folder)

    @classmethod
    def open(cls, folder: Path | str) -> "TokenStore":
        """Open a store; the manifest and the file sizes are checked, the tokens are not read.

        Raises:
            UserError: There is no store, its format has another version, its manifest was changed,
                or a file is missing or has another size.
        """
        place = Path(folder)
        return cls(place, read_manifest(place))

    @property
    def document_starts(self) -> NDArray[np.int64]:
        """Index of the first token of each document, (n_documents,), as a memory map."""
        path, shape = self.folder / "documents.npy", (self.n_documents,)
        return np.memmap(path, dtype="<i8", mode="r", offset=HEADER_BYTES, shape=shape)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the content, computed from the checksums of the shards."""
        checksums = [shard["sha256"] for shard in self.manifest["shards"]]
        parts = [*checksums, self.manifest["documents_sha256"], self.tokenizer_fingerprint]
        return sha256_bytes("\n".join(parts).encode())

    def read(self, start: int, stop: int) -> NDArray[np.integer]:
        """Return tokens[start:stop]: a view inside one shard, a copy across several.

        Raises:
            IndexError: The range is outside the store.
        """
        if not 0 <= start <= stop <= self.n_tokens:
            raise IndexError(f"tokens {start}:{stop} are out of range for {self.n_tokens}")
        self._release_pages(1 + (stop - start) * self.dtype.itemsize // _MAPPED_BY_A_ROW_BYTES)
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        first = min(first, len(self._shards) - 1)
        if stop <= self._starts[first + 1]:
            offset = int(self._starts[first])
            return self._shards[first][start - offset : stop - offset]
        parts = []
        for shard, offset in zip(self._shards[first:], self._starts[first:].tolist(), strict=False):
            if offset >= stop:
                break
            parts.append(shard[max(0, start - offset) : stop - offset])
        return np.concatenate(parts)

    def gather(self, starts: NDArray[np.int64], width: int) -> NDArray[np.integer]:
        """Return the `width` tokens that follow each start, (B, width), in one indexing per shard.

        Raises:
            IndexError: A row would reach outside the store.
        """
        last = self.n_tokens - width
        # Read as unsigned, a negative start is huge: one comparison checks both ends.
        if starts.size and (last < 0 or starts.view(np.uint64).max() > last):
            raise IndexError(
                f"rows of {width} tokens from {starts} are out of range for {self.n_tokens}"
            )
        self._release_pages(len(starts))
        if len(self._shards) == 1:
            return gather_rows(self._shards[0], starts, width)
        shard_of = np.searchsorted(self._starts, starts, side="right") - 1
        inside = starts + width <= self._starts[shard_of + 1]
        rows = np.empty((len(starts), width), dtype=self.dtype)
        for index in np.unique(shard_of[inside]).tolist():
            here = np.flatnonzero(inside & (shard_of == index))
            offsets = starts[here] - self._starts[index]
            rows[here] = gather_rows(self._shards[index], offsets, width)
        for row in np.flatnonzero(~inside).tolist():  # the few rows that cross into the next shard
            rows[row] = self.read(int(starts[row]), int(starts[row]) + width)
        return rows

    def _release_pages(self, n_rows: int) -> None:
        """Release mapped pages of a large store now and then; they stay in the page cache.

        The system counts mapped pages as memory of this process, up to the size of the store, and a
        row can map 64 KiB around it.
        """
        self._n_rows_mapped += n_rows
        if self._n_rows_mapped > _MOST_ROWS_MAPPED and self.n_bytes > _MAPPED_WHOLE_BYTES:
            self._n_rows_mapped = 0
            for map_ in self._maps:
                if hasattr(mmap, "MADV_DONTNEED"):  # absent on Windows
                    map_.madvise(mmap.MADV_DONTNEED)

    @property
    def n_bytes(self) -> int:
        """Size of all shards."""
        return self.n_tokens * int(self.dtype.itemsize)

    def verify(self) -> None:
        """Read every byte and compare the checksums with the manifest.

        Raises:
            UserError: A file is damaged; the message names it.
        """
        expected = {shard["file"]: shard["sha256"] for shard in self.manifest["shards"]}
        expected["documents.npy"] = self.manifest["documents_sha256"]
        for name, checksum in expected.items():
            if name == "documents.npy":
                intact = self._starts_are_intact(checksum)
            else:
                intact = sha256_file(self.folder / name) == checksum
            if not intact:
                raise damaged(self.folder, name, "The file's checksum differs from the manifest's.")

    def _starts_are_intact(self, checksum: str) -> bool:
        path = self.folder / "documents.npy"
        n_in_file = (path.stat().st_size - HEADER_BYTES) // 8
        with open(path, "rb") as file:
            header = file.read(HEADER_BYTES)
        payload = sha256_bytes(self.document_starts.tobytes())
        return header == starts_header(n_in_file) and payload == checksum


def _write(writer: ShardWriter, parts: Iterable[EncodedPart], store: Path) -> None:
    for ids, starts in parts:
        writer.extend(ids, starts)
    if writer.n_tokens == 0:
        raise UserError(
            "There is no token to store. A text that is not empty is expected.", where=store
        )


def _map(path: Path) -> mmap.mmap:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
