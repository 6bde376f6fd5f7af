"""Write shards: a stream of ids becomes numbered files of equal size, hashed while written."""

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
"""Number of tokens held in memory before they are written."""


def starts_header(n_documents: int) -> bytes:
    """Return the 128 header bytes of `documents.npy`."""
    header = io.BytesIO()
    shape = {"descr": "<i8", "fortran_order": False, "shape": (n_documents,)}
    np.lib.format.write_array_header_1_0(header, shape)
    return header.getvalue()


class ShardWriter:
    """Write ids to shards `tokens-00000.bin`, ... and record where each document starts.

    Memory holds one call's ids and a buffer, whatever the size of the corpus.

    Args:
        folder: Folder of the files.
        dtype: Type of an id, little-endian.
        shard_tokens: Number of tokens in a full shard.
        after: Existing shards; new ones are numbered after them.
        document_starts: Document starts in the existing shards.
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
        # The header of documents.npy holds the number of documents, which is known at the end.
        self._starts_file = folder / "documents.raw"
        self._starts_digest = hashlib.sha256()
        self._starts_file.write_bytes(b"")
        if document_starts is not None:
            self._add_starts(document_starts)

    def extend(self, ids: NDArray[np.integer], starts: NDArray[np.int64]) -> None:
        """Append ids, with the positions among them where documents start."""
        self._add_starts(starts + self.n_tokens)
        self.n_tokens += len(ids)
        while len(ids):
            piece = ids[: self._room()]
            self._buffer.append(piece)
            self._buffered += len(piece)
            ids = ids[len(piece) :]
            if self._buffered >= BUFFER_TOKENS or self._room() == 0:
                self._flush()

    def close(self) -> tuple[list[dict[str, Any]], str]:
        """Finish the files; return the shards' table entries and the checksum of the starts.

        `documents.npy` is complete when it gets its name, which is the last step.
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
        """Number of tokens that still fit in the open shard, after those in the buffer."""
        written = self._shards[-1]["n_tokens"] if self._is_open() else 0
        return self.shard_tokens - written - self._buffered

    def _is_open(self) -> bool:
        return bool(self._shards) and "sha256" not in self._shards[-1]

    def _flush(self) -> None:
        if self._buffered:
            if not self._is_open():
                self._digest = hashlib.sha256()
                name = f"tokens-{len(self._shards):05}.bin"
                (self.folder / name).unlink(missing_ok=True)  # left by an interrupted append
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

    def _add_starts(self, starts: NDArray[np.int64]) -> None:
        self._starts += starts.astype("<i8").tobytes()
        self.n_documents += len(starts)
        if len(self._starts) >= BUFFER_TOKENS:
            self._flush_starts()

    def _flush_starts(self) -> None:
        with open(self._starts_file, "ab") as file:
            file.write(self._starts)
        self._starts_digest.update(self._starts)
        self._starts.clear()
