"""The prepared documents on disk, train and validation apart, and how they came there.

    corpus/train.jsonl        one JSON line for a document, or for each piece of a long one
    corpus/validation.jsonl
    corpus/manifest.json      sizes, checksums, where to start reading in the middle, the sources

The manifest is written last and tells how long the files are: what stands beyond was left by an
interrupted run and is never read. Appending adds lines and then replaces the manifest. Lines are
grouped into units of about 4 MB, so that many workers can read one file.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast, get_args

import orjson

from groundup.base.errors import UserError, quoted
from groundup.base.files import atomic_folder, read_json, sha256_file, write_json
from groundup.text.documents import Document, join_pieces
from groundup.text.pieces import Piece
from groundup.text.split import Side

UNIT_BYTES = 2**22
SIDES: tuple[Side, ...] = get_args(Side)


@dataclass(kw_only=True)
class SideSize:
    """What one side holds."""

    n_documents: int = 0
    n_characters: int = 0
    n_bytes: int = 0
    """Of text in UTF-8."""
    n_file_bytes: int = 0
    sha256: str = ""
    """Of the file."""
    units: list[tuple[int, bool]] = field(default_factory=list)
    """Where each unit begins in the file, and whether a document begins there."""


class CorpusWriter:
    """Writes both sides, as pieces come; nothing counts before `finish`.

    Args:
        folder: DATA/corpus to append to it, else an empty folder.
        append: Go on after what is there.
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
        """Add a piece; the pieces of a document come one after another."""
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
        """Make it count: sync the files, then write the manifest with whatever else it tells."""
        for side, file in self._files.items():
            file.flush()
            os.fsync(file.fileno())
            self.sizes[side].sha256 = self._digests[side].hexdigest()
        sides = {side: asdict(size) for side, size in self.sizes.items()}
        write_json(self.folder / "manifest.json", {"format_version": 1, "sides": sides, **more})

    def close(self) -> None:
        """Let go of the files; without `finish` before, nothing was added."""
        for file in self._files.values():
            file.close()


def write_corpus(data: Path, train: Iterable[Document], validation: Iterable[Document]) -> None:
    """Write DATA/corpus from documents that are parted already, whole or not at all."""
    sides: dict[Side, Iterable[Document]] = {"train": train, "validation": validation}
    with atomic_folder(data / "corpus") as temporary, closing(CorpusWriter(temporary)) as writer:
        for side, documents in sides.items():
            for document in documents:
                writer.write(side, Piece(document.name, document.text))
        writer.finish()


def read_sizes(corpus: Path) -> dict[Side, SideSize]:
    """Read what the manifest tells of both sides.

    Raises:
        UserError: There is no prepared corpus, or a file has another length than was written.
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
                "this file is missing" if found is None else f"this file has {found:,} bytes",
                need=f"the {sizes[side].n_file_bytes:,} bytes that were prepared",
                where=file,
                type_this=f"groundup prepare my.txt --out {quoted(corpus.parent)}",
            )
    return sizes


def verify_corpus(corpus: Path) -> None:
    """Read every byte of a corpus and compare with its manifest.

    Raises:
        UserError: A file is damaged; it is named.
    """
    for side, size in read_sizes(corpus).items():
        file = corpus / f"{side}.jsonl"
        if sha256_file(file, size.n_file_bytes) != size.sha256:
            raise UserError(
                "this file is damaged: its checksum is not the manifest's",
                need="the corpus made anew",
                where=file,
                type_this=f"groundup prepare my.txt --out {quoted(corpus.parent)}",
            )


def read_corpus(data: Path, side: str) -> Iterator[Document]:
    """Read the documents of one side back, each whole.

    Raises:
        UserError: There is no prepared corpus.
    """
    return join_pieces(read_corpus_pieces(data, side))


def read_corpus_pieces(
    data: Path, side: str, start: int = 0, stop: int | None = None
) -> Iterator[Piece]:
    """Read the pieces of one side back, from one byte of the file to another, both at line starts.

    Raises:
        UserError: There is no prepared corpus.
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
    """Name the file of one side."""
    return data / "corpus" / f"{side}.jsonl"


def _no_corpus(data: Path) -> UserError:
    return UserError(
        "there is no prepared text here",
        need="a folder made by `groundup prepare`",
        where=data,
        type_this=f"groundup prepare my.txt --out {quoted(data)}",
    )
