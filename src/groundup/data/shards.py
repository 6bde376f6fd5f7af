"""Writing shards: a stream of ids becomes numbered files of one size, hashed on the way."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BUFFER_TOKENS = 2**20
"""Tokens kept in memory before they go to disk."""


class ShardWriter:
    """Cuts documents into shards `tokens-00000.bin`, ... and notes where each document starts.

    Memory holds one document and a buffer; neither the ids nor the starts pile up.

    Args:
        folder: Where the files go.
        dtype: The number format of an id, little-endian.
        shard_tokens: How many tokens fill a shard.
    """

    def __init__(self, folder: Path, dtype: np.dtype[Any], shard_tokens: int) -> None:
        assert shard_tokens >= 1, shard_tokens
        self.folder, self.dtype, self.shard_tokens = folder, dtype, shard_tokens
        self.n_tokens = self.n_documents = 0
        self._shards: list[dict[str, Any]] = []
        self._digest = hashlib.sha256()
        self._buffer: list[NDArray[np.integer]] = []
        self._buffered = 0
        self._starts = bytearray()
        self._starts_file = folder / "documents.raw"

    def write(self, ids: NDArray[np.integer]) -> None:
        """Add one document."""
        self._starts += np.array([self.n_tokens], dtype="<i8").tobytes()
        if len(self._starts) >= BUFFER_TOKENS:
            self._flush_starts()
        self.n_documents += 1
        self.n_tokens += len(ids)
        while len(ids):
            piece = ids[: self._room()]
            self._buffer.append(piece)
            self._buffered += len(piece)
            ids = ids[len(piece) :]
            if self._buffered >= BUFFER_TOKENS or self._room() == 0:
                self._flush()

    def close(self) -> tuple[list[dict[str, Any]], str]:
        """Finish the files; give the shards' names, lengths and checksums, and the starts' one."""
        self._flush()
        self._end_shard()
        self._flush_starts()
        goal = self.folder / "documents.npy"
        header = {"descr": "<i8", "fortran_order": False, "shape": (self.n_documents,)}
        with open(goal, "wb") as file, open(self._starts_file, "rb") as raw:
            np.lib.format.write_array_header_1_0(file, header)
            shutil.copyfileobj(raw, file)
        self._starts_file.unlink()
        with open(goal, "rb") as file:
            return self._shards, hashlib.file_digest(file, "sha256").hexdigest()

    def _room(self) -> int:
        """How many tokens the open shard still takes, the buffered ones counted as in it."""
        written = self._shards[-1]["n_tokens"] if self._is_open() else 0
        return self.shard_tokens - written - self._buffered

    def _is_open(self) -> bool:
        return bool(self._shards) and "sha256" not in self._shards[-1]

    def _flush(self) -> None:
        if self._buffered:
            if not self._is_open():
                self._digest = hashlib.sha256()
                name = f"tokens-{len(self._shards):05}.bin"
                self._shards.append({"file": name, "n_tokens": 0})
            data = np.concatenate(self._buffer).astype(self.dtype).tobytes()
            with open(self.folder / self._shards[-1]["file"], "ab") as file:
                file.write(data)
            self._digest.update(data)
            self._shards[-1]["n_tokens"] += self._buffered
            self._buffer, self._buffered = [], 0
        if self._room() == 0:
            self._end_shard()

    def _end_shard(self) -> None:
        if self._is_open():
            self._shards[-1]["sha256"] = self._digest.hexdigest()

    def _flush_starts(self) -> None:
        with open(self._starts_file, "ab") as file:
            file.write(self._starts)
        self._starts.clear()
