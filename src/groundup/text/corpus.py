"""The corpus: the prepared documents on disk, split into a training and a validation set.

    corpus/train.jsonl        one JSON line for a document, or for each piece of a long one
    corpus/validation.jsonl
    corpus/manifest.json      sizes, checksums, byte offsets of units, sources

The manifest is written last and records the length of the files: anything beyond was left by an
interrupted run and is never read. Appending adds lines and then replaces the manifest. Lines are
grouped into units of about 4 MB, so that many workers can read one file.

What is made from a corpus (a token store) records a reference to it in its own manifest; see
`groundup.text.stores`.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast, get_args

import orjson

from groundup.base.errors import UserError, as_options, joined, quoted
from groundup.base.files import read_json, sha256_file, write_json
from groundup.base.folder_kinds import not_data
from groundup.base.free_name import or_free_name
from groundup.text.config import PrepareConfig
from groundup.text.documents import Document, join_pieces
from groundup.text.pieces import Piece
from groundup.text.split import Side

UNIT_BYTES = 2**22
SIDES: tuple[Side, ...] = get_args(Side)
DATA_PARTS = ("corpus", *SIDES, "tokenizer")
"""The folders inside a data folder that commands write."""


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

    def is_equal(self, manifest: dict[str, Any]) -> bool:
        """Whether what was written so far is the complete text of another corpus."""
        return all(
            self._digests[side].hexdigest() == manifest["sides"][side]["sha256"] for side in SIDES
        )

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
        raise no_corpus(corpus.parent)
    manifest = corpus_manifest(corpus)
    sizes = recorded_sizes(manifest)
    for side, size in sizes.items():
        file = corpus / f"{side}.jsonl"
        found = file.stat().st_size if file.is_file() else None
        if found is None or found < size.n_file_bytes:
            raise UserError(
                f"This file {'is missing' if found is None else f'has {found:,} bytes'}. "
                f"The {size.n_file_bytes:,} bytes that were prepared are expected; "
                "prepare the same sources again.",
                where=file,
                command=prepare_command(corpus.parent, manifest),
            )
    return sizes


_OF_PREPARE = {"stamps", "options", "rule", "longest", "audit"}
"""What the manifest says besides the sizes; only `prepare` needs it."""


def corpus_manifest(corpus: Path, *, for_prepare: bool = False) -> dict[str, Any]:
    """Read the manifest of a corpus.

    Raises:
        UserError: It is missing or damaged.
    """
    manifest = read_json(corpus / "manifest.json")
    try:
        recorded_sizes(manifest)
        complete = not for_prepare or manifest.keys() >= _OF_PREPARE
    except (AttributeError, KeyError, TypeError, ValueError):
        complete = False
    if not complete:
        raise UserError(
            "This file is damaged: it is not the manifest of a corpus. Prepare the sources again, "
            "with overwrite.",
            where=corpus / "manifest.json",
            settings={"overwrite": True},
        )
    return dict(manifest)


def recorded_sizes(manifest: dict[str, Any]) -> dict[Side, SideSize]:
    """Take the sizes of both sides from the manifest of a corpus."""
    table = manifest["sides"]
    return {
        side: SideSize(
            **{**table[side], "units": [(start, first) for start, first in table[side]["units"]]}
        )
        for side in SIDES
    }


def recorded_sources(manifest: dict[str, Any]) -> list[str]:
    """Give the names of the sources of a corpus; version 0.1 recorded each file instead."""
    if "sources" in manifest:
        return list(manifest["sources"])
    stamps = manifest.get("stamps", [])
    return sorted({str(stamp[1] if len(stamp) > 2 else stamp[0]) for stamp in stamps})


def are_read_alike(manifest: dict[str, Any]) -> bool:
    """Whether all sources of a corpus, also appended ones, were read with the same options."""
    appended = [append["options"] for append in manifest.get("appended", [])]
    options = manifest.get("options", {}).items()
    return all(other.get(name, value) == value for other in appended for name, value in options)


def is_corpus(folder: Path) -> bool:
    """Whether a folder, if there is one, contains nothing but a corpus, intact or not."""
    if not folder.is_dir():
        return not folder.exists()
    names = {"manifest.json", *(f"{side}.jsonl" for side in SIDES)}
    return all(path.name in names or is_of_system(path) for path in folder.iterdir())


def is_of_system(path: Path) -> bool:
    """Whether this is a temporary file of ours, or one that a file manager writes."""
    return path.suffix == ".tmp" or path.name in (".DS_Store", "Thumbs.db", "desktop.ini")


def verify_corpus(corpus: Path) -> None:
    """Compare the checksum of every file of a corpus with its manifest.

    Raises:
        UserError: A file is corrupt; it is named.
    """
    for side, size in read_sizes(corpus).items():
        file = corpus / f"{side}.jsonl"
        if sha256_file(file, size.n_file_bytes) != size.sha256:
            raise _corrupt(corpus, side)


def _corrupt(corpus: Path, side: str) -> UserError:
    return UserError(
        "This file is corrupt: its checksum differs from the one in manifest.json. "
        "Prepare the same sources again.",
        where=corpus / f"{side}.jsonl",
        command=prepare_command(corpus.parent, read_json(corpus / "manifest.json")),
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
        UserError: There is no corpus, or a line of it is no record.
    """
    if stop is None:
        stop = read_sizes(data / "corpus")[cast(Side, side)].n_file_bytes
    with open(corpus_file(data, side), "rb") as file:
        file.seek(start)
        while start < stop:
            line = file.readline()
            start += len(line)
            try:
                record = orjson.loads(line)
                is_first, is_last = "continued" not in record, "more" not in record
                piece = Piece(record["name"], record["text"], is_first, is_last)
            except (ValueError, KeyError, TypeError) as error:
                raise _corrupt(data / "corpus", side) from error
            yield piece


def read_chunks(data: Path, side: str) -> Iterator[str]:
    """Read the text of one side in chunks, with a line feed between two documents.

    Raises:
        UserError: There is no corpus, or a line of it is no record.
    """
    for number, piece in enumerate(read_corpus_pieces(data, side)):
        if number and piece.is_first:
            yield "\n"
        yield piece.text


def corpus_file(data: Path, side: str) -> Path:
    """Return the path of the file of one side."""
    return data / "corpus" / f"{side}.jsonl"


def reference(side: Side, size: SideSize) -> str:
    """Describe the present text of one side, for the manifest of what is made from it."""
    return f"corpus/{side}.jsonl bytes:{size.n_file_bytes} sha256:{size.sha256}"


def no_corpus(data: Path) -> UserError:
    """The error for a folder that holds no prepared corpus."""
    return not_data(data) or UserError(
        "There is no prepared corpus. A data folder written by `groundup prepare` is expected.",
        where=data,
        command=f"groundup prepare --out {quoted(or_free_name(data))}",
    )


def prepare_command(data: Path, manifest: dict[str, Any] | None = None) -> str:
    """Write the command that prepares the same text again, as far as it is known.

    It is empty if no single command can: sources that were appended were read in another way.
    """
    sources = recorded_sources(manifest) if manifest else []
    if manifest is not None and not are_read_alike(manifest):
        return ""
    if manifest is None or not sources or "-" in sources:
        return f"groundup prepare my.txt --out {quoted(data)}"
    usual, options = PrepareConfig(), manifest.get("options", {})
    changed = {k: v for k, v in options.items() if v != getattr(usual, k, v)}
    words = joined([*sources, *as_options(changed)])
    return f"groundup prepare {words} --out {quoted(data)}"
