"""The token store: a folder of raw token shards that any memory map can read, and its manifest.

    tokens-00000.bin ...   little-endian ids, uint16 while every id fits, else uint32; no header
    documents.npy          int64, the first token of each document
    manifest.json          format version, counts, checksums, the tokenizer's fingerprint, sources

A store is built under a temporary name and renamed as the last act: a half store never opens.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.base.errors import UserError
from groundup.base.files import atomic_folder, read_json, sha256_bytes, sha256_file, write_json

FORMAT_VERSION = 1
SHARD_TOKENS = 2**27
"""Tokens per shard: 256 MiB of uint16."""
_BUFFER_TOKENS = 2**20


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
        self._shards = [
            np.memmap(folder / shard["file"], dtype=self.dtype, mode="r")
            for shard in manifest["shards"]
        ]
        lengths = [shard["n_tokens"] for shard in manifest["shards"]]
        self._starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    @classmethod
    def build(
        cls,
        folder: Path | str,
        documents: Iterable[Sequence[int]],
        *,
        vocab_size: int,
        tokenizer_fingerprint: str,
        end_of_text: int | None,
        sources: Sequence[str] = (),
        shard_tokens: int = SHARD_TOKENS,
    ) -> "TokenStore":
        """Write the ids of documents, one after another, each closed by `end_of_text`.

        Memory holds one document and a buffer, whatever the corpus.

        Raises:
            UserError: There are no tokens, an id does not fit, or the place cannot be written.
        """
        goal = Path(folder)
        dtype = token_dtype(vocab_size)
        with atomic_folder(goal) as temporary:
            writer = _Writer(temporary, dtype, shard_tokens)
            starts: list[int] = []
            for document in documents:
                ids = np.asarray(document, dtype=np.int64)
                if end_of_text is not None:
                    ids = np.append(ids, end_of_text)
                if ids.size and not (ids.min() >= 0 and ids.max() < vocab_size):
                    raise UserError(
                        f"document {len(starts)} holds id {int(ids.max())}",
                        need=f"ids below the vocabulary's {vocab_size}",
                        where=goal,
                    )
                starts.append(writer.n_tokens)
                writer.write(ids.astype(dtype))
            shards = writer.close()
            if writer.n_tokens == 0:
                raise UserError("no token to store", need="a text that is not empty", where=goal)
            np.save(temporary / "documents.npy", np.array(starts, dtype=np.int64))
            write_json(
                temporary / "manifest.json",
                {
                    "format_version": FORMAT_VERSION,
                    "dtype": dtype.str,
                    "n_tokens": writer.n_tokens,
                    "n_documents": len(starts),
                    "vocab_size": vocab_size,
                    "end_of_text": end_of_text,
                    "tokenizer_fingerprint": tokenizer_fingerprint,
                    "sources": list(sources),
                    "documents_sha256": sha256_file(temporary / "documents.npy"),
                    "shards": shards,
                },
            )
        return cls.open(goal)

    @classmethod
    def open(cls, folder: Path | str) -> "TokenStore":
        """Open a store; the shards' sizes are checked, their content is not read.

        Raises:
            UserError: There is no store, it is of another version, or a shard is cut short.
        """
        place = Path(folder)
        if not (place / "manifest.json").is_file():
            raise UserError(
                "there is no token store here",
                need="a folder made by `groundup train-tokenizer`",
                where=place,
                type_this=f"groundup train-tokenizer {place.parent}",
            )
        manifest = read_json(place / "manifest.json")
        if manifest.get("format_version") != FORMAT_VERSION:
            raise UserError(
                f"a store of format {manifest.get('format_version')}",
                need=f"format {FORMAT_VERSION}",
                where=place,
            )
        itemsize = np.dtype(manifest["dtype"]).itemsize
        for shard in manifest["shards"]:
            file = place / shard["file"]
            size = file.stat().st_size if file.is_file() else -1
            if size != shard["n_tokens"] * itemsize:
                raise UserError(
                    "this shard is missing" if size < 0 else f"this shard has {size:,} bytes",
                    need=f"{shard['n_tokens'] * itemsize:,} bytes",
                    where=file,
                    type_this=f"groundup train-tokenizer {place.parent}",
                )
        return cls(place, manifest)

    @property
    def document_starts(self) -> NDArray[np.int64]:
        """The first token of each document, (n_documents,)."""
        starts: NDArray[np.int64] = np.load(self.folder / "documents.npy", mmap_mode="r")
        return starts

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

    def verify(self) -> None:
        """Read every byte and compare with the manifest.

        Raises:
            UserError: A file is damaged; it is named.
        """
        expected = {shard["file"]: shard["sha256"] for shard in self.manifest["shards"]}
        expected["documents.npy"] = self.manifest["documents_sha256"]
        for name, checksum in expected.items():
            if sha256_file(self.folder / name) != checksum:
                raise UserError(
                    "this file is damaged: its checksum is not the manifest's",
                    need="the store made anew",
                    where=self.folder / name,
                    type_this=f"groundup train-tokenizer {self.folder.parent}",
                )


class _Writer:
    """Cuts a stream of ids into shards."""

    def __init__(self, folder: Path, dtype: np.dtype[Any], shard_tokens: int) -> None:
        self.folder, self.dtype, self.shard_tokens = folder, dtype, shard_tokens
        self.n_tokens = 0
        self._shards: list[dict[str, Any]] = []
        self._buffer: list[NDArray[np.integer]] = []
        self._buffered = 0
        self._in_shard = 0

    def write(self, ids: NDArray[np.integer]) -> None:
        self.n_tokens += len(ids)
        while len(ids):
            room = self.shard_tokens - self._in_shard - self._buffered
            self._buffer.append(ids[:room])
            self._buffered += len(ids[:room])
            ids = ids[room:]
            if self._in_shard + self._buffered == self.shard_tokens:
                self._flush()
                self._in_shard = 0
            elif self._buffered >= _BUFFER_TOKENS:
                self._flush()

    def close(self) -> list[dict[str, Any]]:
        self._flush()
        for shard in self._shards:
            shard["sha256"] = sha256_file(self.folder / shard["file"])
        return self._shards

    def _flush(self) -> None:
        if not self._buffered:
            return
        if self._in_shard == 0:
            name = f"tokens-{len(self._shards):05}.bin"
            self._shards.append({"file": name, "n_tokens": 0})
        shard = self._shards[-1]
        with open(self.folder / shard["file"], "ab") as file:
            np.concatenate(self._buffer).astype(self.dtype).tofile(file)
        shard["n_tokens"] += self._buffered
        self._in_shard += self._buffered
        self._buffer, self._buffered = [], 0
