"""Writing shards: a stream of ids becomes numbered files of one size, hashed on the way."""

import hashlib
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.base.files import atomic_path

BUFFER_TOKENS = 2**20
"""Tokens kept in memory before they go to disk."""


def starts_header(n_documents: int) -> bytes:
    """Give the 128 bytes before the starts in `documents.npy`."""
    header = io.BytesIO()
    shape = {"descr": "<i8", "fortran_order": False, "shape": (n_documents,)}
    np.lib.format.write_array_header_1_0(header, shape)
    return header.getvalue()


class ShardWriter:
    """Cuts ids into shards `tokens-00000.bin`, ... and notes where each document starts.

    Memory holds what it is given at once and a buffer; neither the ids nor the starts pile up.

    Args:
        folder: Where the files go.
        dtype: The number format of an id, little-endian.
        shard_tokens: How many tokens fill a shard.
        after: The shards that stand there already; new ones are numbered from there on.
        document_starts: The starts of the documents in them.
    """

    def __init__(
        self,
        folder: Path,
        dtype: np.dtype[Any],
        shard_tokens: int,
        *,
        after: Sequence[dict[str, Any]] = (),
        document_starts: NDArray[np.int64] | None = None,
    ) -> None:
        assert shard_tokens >= 1, shard_tokens
        self.folder, self.dtype, self.shard_tokens = folder, dtype, shard_tokens
        self.n_tokens = sum(shard["n_tokens"] for shard in after)
        self.n_documents = 0
        self._shards: list[dict[str, Any]] = list(after)
        self._digest = hashlib.sha256()
        self._buffer: list[NDArray[np.integer]] = []
        self._buffered = 0
        self._starts = bytearray()
        self._starts_file = folder / "documents.raw"
        self._starts_digest = hashlib.sha256()
        self._starts_file.write_bytes(b"")
        if document_starts is not None:
            self._note_starts(document_starts)

    def extend(self, ids: NDArray[np.integer], starts: NDArray[np.int64]) -> None:
        """Add ids, with the places among them where documents start."""
        self._note_starts(starts + self.n_tokens)
        self.n_tokens += len(ids)
        while len(ids):
            piece = ids[: self._room()]
            self._buffer.append(piece)
            self._buffered += len(piece)
            ids = ids[len(piece) :]
            if self._buffered >= BUFFER_TOKENS or self._room() == 0:
                self._flush()

    def close(self) -> tuple[list[dict[str, Any]], str]:
        """Finish the files; give the shards' names, lengths and checksums, and the starts' one.

        The table of starts is written whole and takes its name as the last act.
        """
        self._flush()
        self._end_shard()
        self._flush_starts()
        with (
            atomic_path(self.folder / "documents.npy") as temporary,
            open(self._starts_file, "rb") as raw,
            open(temporary, "wb") as file,
        ):
            file.write(starts_header(self.n_documents))
            shutil.copyfileobj(raw, file)
        self._starts_file.unlink()
        return self._shards, self._starts_digest.hexdigest()

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
                (self.folder / name).unlink(missing_ok=True)  # left by an interrupted run
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

    def _note_starts(self, starts: NDArray[np.int64]) -> None:
        self._starts += starts.astype("<i8").tobytes()
        self.n_documents += len(starts)
        if len(self._starts) >= BUFFER_TOKENS:
            self._flush_starts()

    def _flush_starts(self) -> None:
        with open(self._starts_file, "ab") as file:
            file.write(self._starts)
        self._starts_digest.update(self._starts)
        self._starts.clear()
