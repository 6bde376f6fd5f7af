"""The corpus: the prepared documents on disk, split into a training and a validation set.

    corpus/train.jsonl        one JSON line for a document, or for each piece of a long one
    corpus/validation.jsonl
    corpus/manifest.json      sizes, checksums, byte offsets of units, sources

The manifest is written last and records the length of the files: anything beyond was left by an
interrupted run and is never read. Appending adds lines and then replaces the manifest. Lines are
grouped into units of about 4 MB, so that many workers can read one file.

What is made from a corpus (a token store) records a reference to it in its own manifest:
"corpus/train.jsonl bytes:123 sha256:ab12...", the beginning of the file that it was made from.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast, get_args

import orjson

from groundup.base.errors import UserError, quoted
from groundup.base.files import read_json, sha256_file, write_json
from groundup.base.folder_kinds import not_data
from groundup.base.newest_run import or_free_name
from groundup.text.documents import Document, join_pieces
from groundup.text.pieces import Piece
from groundup.text.split import Side

UNIT_BYTES = 2**22
SIDES: tuple[Side, ...] = get_args(Side)


@dataclass(kw_only=True)
class SideSize:
    """The size of one side, and the byte offsets of its units."""

    n_documents: int = 0
    n_characters: int = 0
    n_bytes: int = 0
    """Bytes of text in UTF-8."""
    n_file_bytes: int = 0
    sha256: str = ""
    """Checksum of the file."""
    units: list[tuple[int, bool]] = field(default_factory=list)
    """Byte offset at which each unit begins, and whether a document begins there."""


class CorpusWriter:
    """Write both sides piece by piece; nothing is part of the corpus before `finish`.

    Args:
        folder: DATA/corpus to append to it, otherwise an empty folder.
        append: Continue after the documents that are already there.
    """

    def __init__(self, folder: Path, *, append: bool = False) -> None:
        self.folder = folder
        self.sizes = read_sizes(folder) if append else {side: SideSize() for side in SIDES}
        self._files: dict[Side, BinaryIO] = {}
        self._digests: dict[Side, Any] = {}
        for side, size in self.sizes.items():
            path = folder / f"{side}.jsonl"
            file = open(path, "r+b" if append else "w+b")  # noqa: SIM115
            file.truncate(size.n_file_bytes)
            self._digests[side] = hashlib.file_digest(file, "sha256")
            self._files[side] = file

    def write(self, side: Side, piece: Piece) -> None:
        """Add a piece; the pieces of a document must follow one another."""
        size = self.sizes[side]
        begun = size.units[-1][0] if size.units else -UNIT_BYTES
        if size.n_file_bytes - begun >= UNIT_BYTES:
            size.units.append((size.n_file_bytes, piece.is_first))
        record: dict[str, Any] = {"name": piece.name, "text": piece.text}
        if not piece.is_first:
            record["continued"] = True
        if not piece.is_last:
            record["more"] = True
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        self._files[side].write(line)
        self._digests[side].update(line)
        size.n_file_bytes += len(line)
        size.n_documents += piece.is_first
        size.n_characters += len(piece.text)
        size.n_bytes += len(piece.text.encode("utf-8"))

    def finish(self, **more: Any) -> None:
        """Sync the files, then write the manifest, with further entries if any are given."""
        for side, file in self._files.items():
            file.flush()
            os.fsync(file.fileno())
            self.sizes[side].sha256 = self._digests[side].hexdigest()
        sides = {side: asdict(size) for side, size in self.sizes.items()}
        write_json(self.folder / "manifest.json", {"format_version": 1, "sides": sides, **more})

    def close(self) -> None:
        """Close the files; without `finish` before, nothing was added."""
        for file in self._files.values():
            file.close()


def read_sizes(corpus: Path) -> dict[Side, SideSize]:
    """Read the sizes of both sides from the manifest.

    Raises:
        UserError: There is no corpus, or a file is missing or too short.
    """
    if not (corpus / "manifest.json").is_file():
        raise _no_corpus(corpus.parent)
    table = read_json(corpus / "manifest.json")["sides"]
    sizes: dict[Side, SideSize] = {}
    for side in SIDES:
        units = [(start, is_first) for start, is_first in table[side]["units"]]
        sizes[side] = SideSize(**{**table[side], "units": units})
        file = corpus / f"{side}.jsonl"
        found = file.stat().st_size if file.is_file() else None
        if found is None or found < sizes[side].n_file_bytes:
            raise UserError(
                f"This file {'is missing' if found is None else f'has {found:,} bytes'}. "
                f"The {sizes[side].n_file_bytes:,} bytes that were prepared are expected; "
                "prepare the same sources again.",
                where=file,
            )
    return sizes


def verify_corpus(corpus: Path) -> None:
    """Compare the checksum of every file of a corpus with its manifest.

    Raises:
        UserError: A file is corrupt; it is named.
    """
    for side, size in read_sizes(corpus).items():
        file = corpus / f"{side}.jsonl"
        if sha256_file(file, size.n_file_bytes) != size.sha256:
            raise UserError(
                "This file is corrupt: its checksum differs from the one in manifest.json. "
                "Prepare the same sources again.",
                where=file,
            )


def read_corpus(data: Path, side: str) -> Iterator[Document]:
    """Read the complete documents of one side.

    Raises:
        UserError: There is no corpus.
    """
    return join_pieces(read_corpus_pieces(data, side))


def read_corpus_pieces(
    data: Path, side: str, start: int = 0, stop: int | None = None
) -> Iterator[Piece]:
    """Read the pieces of one side between two byte offsets, which must be at line starts.

    Raises:
        UserError: There is no corpus.
    """
    if stop is None:
        stop = read_sizes(data / "corpus")[cast(Side, side)].n_file_bytes
    with open(corpus_file(data, side), "rb") as file:
        file.seek(start)
        while start < stop:
            line = file.readline()
            start += len(line)
            record = orjson.loads(line)
            is_first, is_last = "continued" not in record, "more" not in record
            yield Piece(record["name"], record["text"], is_first, is_last)


def corpus_file(data: Path, side: str) -> Path:
    """Return the path of the file of one side."""
    return data / "corpus" / f"{side}.jsonl"


def reference(side: Side, size: SideSize) -> str:
    """Describe the present text of one side, for the manifest of what is made from it."""
    return f"corpus/{side}.jsonl bytes:{size.n_file_bytes} sha256:{size.sha256}"


def n_referenced_bytes(data: Path, side: Side, size: SideSize, manifest: Any) -> int:
    """Return the length of the text that a manifest refers to, or 0 if the corpus differs from it.

    Args:
        data: The data folder.
        side: The side that the manifest should refer to.
        size: Its present size.
        manifest: The manifest of something made from the corpus, such as a token store.
    """
    try:
        _, n_bytes, checksum = manifest["sources"][0].split(" ")
        n_bytes = int(n_bytes.removeprefix("bytes:"))
    except (AttributeError, TypeError, ValueError, KeyError, IndexError):
        return 0
    if n_bytes > size.n_file_bytes:
        return 0
    present = (
        size.sha256
        if n_bytes == size.n_file_bytes
        else sha256_file(corpus_file(data, side), n_bytes)
    )
    return n_bytes if checksum == f"sha256:{present}" else 0


def remove_outdated(data: Path) -> list[Path]:
    """Remove token stores (DATA/train, DATA/validation) that were made from another text.

    A store is kept if the present corpus begins with its text. Other folders are never removed.

    Returns:
        The folders that were removed.
    """
    removed = []
    for side, size in read_sizes(data / "corpus").items():
        folder = data / side
        try:
            manifest = read_json(folder / "manifest.json")
        except UserError:
            continue
        is_store = isinstance(manifest, dict) and {"format_version", "shards"} <= manifest.keys()
        if is_store and n_referenced_bytes(data, side, size, manifest) == 0:
            shutil.rmtree(folder)
            removed.append(folder)
    return removed


def _no_corpus(data: Path) -> UserError:
    wrong = not_data(data)
    if wrong is not None:
        message = wrong.message
        if not data.is_dir():
            message = f"There is no prepared corpus. {message}"
        elif "not prepared data" in message:
            message = "This folder holds text files but no prepared corpus. Prepare the text first."
        return UserError(message, where=data, command=wrong.command, settings=wrong.settings)
    return UserError(
        "There is no prepared corpus. A data folder written by `groundup prepare` is expected.",
        where=data,
        command=f"groundup prepare --out {quoted(or_free_name(data))}",
    )
