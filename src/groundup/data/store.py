"""The token store: a folder of raw token shards that any memory map can read, and its manifest.

    tokens-00000.bin ...   little-endian ids, uint16 while every id fits, else uint32; no header
    documents.npy          int64, the first token of each document
    manifest.json          format version, counts, checksums, the tokenizer's fingerprint, sources

A store is built under a temporary name and renamed as the last act: a half store never opens.
"""

import json
import mmap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.base.errors import UserError, quoted
from groundup.base.files import (
    atomic_folder,
    in_place,
    read_json,
    sha256_bytes,
    sha256_file,
    write_json,
)
from groundup.data.gather import gather_rows
from groundup.data.token_files import BUFFER_TOKENS, ShardWriter, starts_header

FORMAT_VERSION = 1
SHARD_TOKENS = 2**27
"""Tokens per shard: 256 MiB of uint16."""
_MAPPED_WHOLE_BYTES = 2**29
_MOST_ROWS_MAPPED = 2**10
_HEADER_BYTES = len(starts_header(0))


Part = tuple[NDArray[np.integer], NDArray[np.int64]]
"""Ids, and the places among them where documents start."""


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """Give the one number format of a vocabulary: uint16 while the largest id fits.

    >>> token_dtype(65_536).name, token_dtype(65_537).name
    ('uint16', 'uint32')
    """
    return np.dtype("<u2") if vocab_size <= 2**16 else np.dtype("<u4")


class TokenStore:
    """A corpus as ids on disk, read through memory maps; memory does not follow its size."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder, self.manifest = folder, manifest
        self.n_tokens: int = manifest["n_tokens"]
        self.n_documents: int = manifest["n_documents"]
        self.vocab_size: int = manifest["vocab_size"]
        self.tokenizer_fingerprint: str = manifest["tokenizer_fingerprint"]
        self.dtype = np.dtype(manifest["dtype"])
        self._maps = [_map(folder / shard["file"]) for shard in manifest["shards"]]
        if self.n_bytes > _MAPPED_WHOLE_BYTES and hasattr(mmap, "MADV_RANDOM"):
            for map_ in self._maps:
                map_.madvise(mmap.MADV_RANDOM)  # a row, not what may come after it
        self._shards = [np.frombuffer(map_, dtype=self.dtype) for map_ in self._maps]
        self._n_rows_mapped = 0
        lengths = [shard["n_tokens"] for shard in manifest["shards"]]
        self._starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process as a path: pickling a memory map would copy the corpus."""
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
        """Write the ids of documents, one after another, each closed by `end_of_text`.

        Memory holds one document and a buffer, whatever the corpus. An older store in this place
        is replaced; anything else is left alone.

        Raises:
            UserError: There are no tokens, an id does not fit, the place cannot be written or
                holds something that is not a store.
        """
        dtype = token_dtype(vocab_size)

        def parts() -> Iterator[Part]:
            closing = np.array([] if end_of_text is None else [end_of_text], dtype=dtype)
            for number, document in enumerate(documents):
                ids = np.asarray(document if len(document) else closing[:0])
                for begin in range(0, max(1, len(ids)), BUFFER_TOKENS):  # a huge one in blocks
                    block = ids[begin : begin + BUFFER_TOKENS]
                    misfits = block[(block < 0) | (block >= vocab_size)]
                    if misfits.size:
                        raise UserError(
                            f"document {number} holds id {int(misfits[0])}",
                            need=f"ids from 0 to {vocab_size - 1}, the vocabulary's last",
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
        parts: Iterable[Part],
        *,
        vocab_size: int,
        tokenizer_fingerprint: str,
        end_of_text: int | None,
        sources: Sequence[str] = (),
        shard_tokens: int = SHARD_TOKENS,
    ) -> "TokenStore":
        """Write ids that are in order and in the store's number format, part by part.

        Raises:
            UserError: As `build`.
        """
        goal = Path(folder)
        if goal.is_dir() and any(goal.iterdir()) and not is_store(goal):
            raise UserError(
                "this folder holds other things than a token store; they are not overwritten",
                need="a data folder of its own",
                where=goal,
                type_this="groundup prepare --out data",
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
            _write(writer, parts, temporary, table, sources)
        return cls.open(goal)

    def append_parts(self, parts: Iterable[Part], *, sources: Sequence[str] = ()) -> "TokenStore":
        """Add ids after those that are there, in new shards; give the longer store.

        Nothing that is there is changed until the new manifest takes the old one's name.

        Raises:
            UserError: The place cannot be written to, or the disk is full.
        """
        with in_place(self.folder, "the store is as it was"):
            writer = ShardWriter(
                self.folder,
                self.dtype,
                self.manifest["shard_tokens"],
                after=self.manifest["shards"],
                document_starts=self.document_starts,
            )
            _write(writer, parts, self.folder, self.manifest, sources)
        return TokenStore.open(self.folder)

    @classmethod
    def open(cls, folder: Path | str) -> "TokenStore":
        """Open a store: manifest and sizes are checked, the tokens themselves are not read.

        Raises:
            UserError: There is no store, it is of another version, its manifest was changed, or a
                file is missing or has another size.
        """
        place = Path(folder)
        anew = f"groundup train-tokenizer {quoted(place.parent)}"
        if not (place / "manifest.json").is_file():
            raise UserError(
                "there is no token store here",
                need="a folder made by `groundup train-tokenizer`",
                where=place,
                type_this=anew,
            )
        manifest = read_json(place / "manifest.json")
        version = manifest.get("format_version") if isinstance(manifest, dict) else None
        if version != FORMAT_VERSION:
            raise UserError(
                f"a store of format {version}", need=f"format {FORMAT_VERSION}", where=place
            )
        if manifest.get("manifest_sha256") != _manifest_checksum(manifest):
            raise UserError(
                "this manifest is damaged: it does not have its own checksum",
                need="the store made anew",
                where=place / "manifest.json",
                type_this=anew,
            )
        itemsize = np.dtype(manifest["dtype"]).itemsize
        sizes = {shard["file"]: shard["n_tokens"] * itemsize for shard in manifest["shards"]}
        sizes["documents.npy"] = _HEADER_BYTES + 8 * manifest["n_documents"]
        for name, size in sizes.items():
            found = (place / name).stat().st_size if (place / name).is_file() else None
            # An interrupted append leaves a longer table of starts: we read our part.
            excess = 0 if found is None else found - size
            longer = name == "documents.npy" and excess > 0 and excess % 8 == 0
            if found != size and not longer:
                raise UserError(
                    "this file is missing" if found is None else f"this file has {found:,} bytes",
                    need=f"one of {size:,} bytes",
                    where=place / name,
                    type_this=anew,
                )
        return cls(place, manifest)

    @property
    def document_starts(self) -> NDArray[np.int64]:
        """The first token of each document, (n_documents,), as a memory map."""
        path, shape = self.folder / "documents.npy", (self.n_documents,)
        return np.memmap(path, dtype="<i8", mode="r", offset=_HEADER_BYTES, shape=shape)

    @property
    def fingerprint(self) -> str:
        """A SHA-256 of what the store holds, from its shards' checksums."""
        checksums = [shard["sha256"] for shard in self.manifest["shards"]]
        parts = [*checksums, self.manifest["documents_sha256"], self.tokenizer_fingerprint]
        return sha256_bytes("\n".join(parts).encode())

    def read(self, start: int, stop: int) -> NDArray[np.integer]:
        """Give tokens[start:stop]: a view inside one shard, a copy across several.

        Raises:
            IndexError: The range is outside of the store.
        """
        if not 0 <= start <= stop <= self.n_tokens:
            raise IndexError(f"tokens {start}:{stop} of {self.n_tokens}")
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
        """Give the `width` tokens from each start on, (B, width), in one indexing per shard.

        Raises:
            IndexError: A row would reach outside of the store.
        """
        last = self.n_tokens - width
        # As unsigned, a negative start is a huge one.
        if starts.size and (last < 0 or starts.view(np.uint64).max() > last):
            raise IndexError(f"rows of {width} tokens from {starts} in {self.n_tokens}")
        self._stay_small(len(starts))
        if len(self._shards) == 1:
            return gather_rows(self._shards[0], starts, width)
        shard_of = np.searchsorted(self._starts, starts, side="right") - 1
        inside = starts + width <= self._starts[shard_of + 1]
        rows = np.empty((len(starts), width), dtype=self.dtype)
        for index in np.unique(shard_of[inside]).tolist():
            here = np.flatnonzero(inside & (shard_of == index))
            offsets = starts[here] - self._starts[index]
            rows[here] = gather_rows(self._shards[index], offsets, width)
        for row in np.flatnonzero(~inside).tolist():  # the few that run into the next shard
            rows[row] = self.read(int(starts[row]), int(starts[row]) + width)
        return rows

    def _stay_small(self, n_rows: int) -> None:
        """Let go of pages that rows of a large store have touched: they stay in the page cache.

        The system counts them as this process's memory, up to the whole store. A row may map as
        much as 64 KiB around it.
        """
        self._n_rows_mapped += n_rows
        if self._n_rows_mapped > _MOST_ROWS_MAPPED and self.n_bytes > _MAPPED_WHOLE_BYTES:
            self._n_rows_mapped = 0
            for map_ in self._maps:
                if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
                    map_.madvise(mmap.MADV_DONTNEED)

    @property
    def n_bytes(self) -> int:
        """How large the shards are together."""
        return self.n_tokens * int(self.dtype.itemsize)

    def verify(self) -> None:
        """Read every byte and compare with the manifest.

        Raises:
            UserError: A file is damaged; it is named.
        """
        expected = {shard["file"]: shard["sha256"] for shard in self.manifest["shards"]}
        expected["documents.npy"] = self.manifest["documents_sha256"]
        for name, checksum in expected.items():
            if name == "documents.npy":
                sound = self._starts_are_sound(checksum)
            else:
                sound = sha256_file(self.folder / name) == checksum
            if not sound:
                raise UserError(
                    "this file is damaged: its checksum is not the manifest's",
                    need="the store made anew",
                    where=self.folder / name,
                    type_this=f"groundup train-tokenizer {quoted(self.folder.parent)}",
                )

    def _starts_are_sound(self, checksum: str) -> bool:
        path = self.folder / "documents.npy"
        n_in_file = (path.stat().st_size - _HEADER_BYTES) // 8
        with open(path, "rb") as file:
            header = file.read(_HEADER_BYTES)
        payload = sha256_bytes(self.document_starts.tobytes())
        return header == starts_header(n_in_file) and payload == checksum


def _write(
    writer: ShardWriter,
    parts: Iterable[Part],
    folder: Path,
    table: dict[str, Any],
    sources: Sequence[str],
) -> None:
    """Write parts and, last, the manifest that makes them a store."""
    for ids, starts in parts:
        writer.extend(ids, starts)
    if writer.n_tokens == 0:
        raise UserError("no token to store", need="a text that is not empty", where=folder)
    shards, documents_sha256 = writer.close()
    manifest = {key: value for key, value in table.items() if key != "manifest_sha256"} | {
        "n_tokens": writer.n_tokens,
        "n_documents": writer.n_documents,
        "sources": list(sources),
        "documents_sha256": documents_sha256,
        "shards": shards,
    }
    manifest["manifest_sha256"] = _manifest_checksum(manifest)
    write_json(folder / "manifest.json", manifest)


def _map(path: Path) -> mmap.mmap:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def is_store(folder: Path | str) -> bool:
    """Tell whether a folder is one of ours, sound or not."""
    try:
        manifest = read_json(Path(folder) / "manifest.json")
    except UserError:
        return False
    return isinstance(manifest, dict) and {"format_version", "shards"} <= manifest.keys()


def _manifest_checksum(manifest: dict[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    return sha256_bytes(json.dumps(rest, sort_keys=True).encode())
