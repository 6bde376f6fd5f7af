"""Find sources of text: files, folders, globs, standard input, URLs, datasets and named texts.

This is the one place that decides what a source word means. Each word becomes one or more sources;
`.gz` and `.zst` files are opened as what they contain. Nothing is read here beyond the first bytes,
which distinguish text from binary data.
"""

import difflib
import glob
import gzip
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, runtime_checkable

from groundup.base.errors import UserError, quoted
from groundup.base.extras import needed
from groundup.base.files import sha256_bytes
from groundup.text.builtin import BUILTIN_NAME, python_reference
from groundup.text.catalog import CATALOG, fetch

HUGGING_FACE = "hf:"
"""The prefix of a source that the `datasets` library opens."""
PROBE_BYTES = 65_536
_BINARY_SUFFIXES = {".png", ".jpg", ".jpeg", ".gif", ".pdf", ".zip", ".exe", ".so", ".bin", ".npy"}
_COMPRESSED_SUFFIXES = {".gz", ".zst"}


@runtime_checkable
class ByteStream(Protocol):
    """An opened source."""

    def read(self, size: int = -1, /) -> bytes:
        """Read the next bytes; returns none at the end."""
        ...


@dataclass(frozen=True)
class Source:
    """Something to read documents from: a file, a stream, a dataset or the built-in text."""

    name: str
    place: str
    """A path, a URL, hf:NAME, python-reference, or - for standard input."""
    stamp: list[Any] = field(repr=False)
    """Changes when the text changes; contains None where that cannot be known."""
    n_bytes: int | None = None
    """The size of the file, compressed if it is; None if it is unknown before reading."""

    def __str__(self) -> str:
        """Show where it is, for messages."""
        return self.name if self.place == "-" else self.place

    @property
    def is_builtin(self) -> bool:
        """Whether this is the text that comes with Python."""
        return self.place == BUILTIN_NAME

    @property
    def is_hugging_face(self) -> bool:
        """Whether the `datasets` library opens this source."""
        return self.place.startswith(HUGGING_FACE)

    @property
    def suffix(self) -> str:
        """The kind of file, without any compression: ".jsonl" for a.jsonl.gz."""
        suffixes = [suffix.lower() for suffix in PurePosixPath(self.name).suffixes]
        while suffixes and suffixes[-1] in _COMPRESSED_SUFFIXES:
            suffixes.pop()
        return suffixes[-1] if suffixes else ""

    @contextmanager
    def open(self) -> Iterator[ByteStream]:
        """Open a file or stream, decompressed.

        Raises:
            UserError: It cannot be read, or a package that opens it is not installed.
        """
        try:
            with ExitStack() as stack:
                raw: Any
                if self.place == "-":
                    raw = sys.stdin.buffer
                elif "://" in self.place:
                    fsspec = needed("fsspec", "sources", self.place)
                    raw = stack.enter_context(fsspec.open(self.place, "rb"))
                else:
                    raw = stack.enter_context(open(self.place, "rb"))
                for suffix in reversed(PurePosixPath(self.name).suffixes):
                    if suffix == ".gz":
                        raw = stack.enter_context(gzip.open(raw))
                    elif suffix == ".zst":
                        zstandard = needed("zstandard", "sources", self.place)
                        reader = zstandard.ZstdDecompressor()
                        raw = stack.enter_context(
                            reader.stream_reader(raw, read_across_frames=True)
                        )
                    else:
                        break
                yield raw
        except OSError as error:
            raise UserError(f"This source cannot be read ({error}).", where=self.place) from error

    def read(self, file: ByteStream, size: int) -> bytes:
        """Read the next bytes of the opened file.

        Raises:
            UserError: It cannot be read, or its compressed data is corrupt.
        """
        zstandard = sys.modules.get("zstandard")
        corrupt = (OSError, EOFError, zlib.error, *([zstandard.ZstdError] if zstandard else []))
        try:
            return file.read(size)
        except corrupt as error:
            raise UserError(f"This source cannot be read ({error}).", where=self.place) from error


def find_sources(word: str) -> list[Source]:
    """Find what a source word names; files of folders and globs come in sorted order.

    Args:
        word: A file, a folder, a glob, a URL, "-" for standard input, "hf:NAME" or
            "hf:NAME:SPLIT" for a Hugging Face dataset, "python-reference", or a name in `CATALOG`
            (which is downloaded on first use).

    Raises:
        UserError: Nothing has this name, or it contains nothing readable.
    """
    if word == BUILTIN_NAME:
        text = "".join(document.text for document in python_reference()).encode("utf-8")
        return [Source(word, word, [word, sha256_bytes(text)], len(text))]
    if word.startswith(HUGGING_FACE):
        return [Source(word, word, [word, None])]
    if word == "-":
        return [Source("stdin", "-", ["stdin", "-", None])]
    if "://" in word:
        return _at_url(word)
    path = Path(word)
    if path.is_dir():
        return _in_folder(path)
    if path.exists():
        return [_file(path.name, word)]
    if word in CATALOG:
        text_file, about = fetch(CATALOG[word]), CATALOG[word]
        return [Source(text_file.name, str(text_file), [word, about.sha256], about.n_bytes)]
    found = sorted(glob.glob(word, recursive=True)) if glob.has_magic(word) else []
    files = [_file(name, name) for name in found if Path(name).is_file()]
    if not files:
        raise _nothing_at(word)
    return files


def _file(name: str, place: str) -> Source:
    found = Path(place).stat()
    stamp = [name, str(Path(place).resolve()), found.st_size, found.st_mtime_ns]
    return Source(name, place, stamp, found.st_size)


def _in_folder(folder: Path) -> list[Source]:
    inside = sorted(
        file
        for file in folder.rglob("*")
        if file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )
    readable = [file for file in inside if not looks_binary(file)]
    if not readable:
        raise UserError(
            f"This folder contains no text file (files examined: {len(inside)}). "
            "Files such as txt, md, jsonl, csv or parquet are expected.",
            where=folder,
        )
    return [_file(str(file.relative_to(folder)), str(file)) for file in readable]


def _at_url(word: str) -> list[Source]:
    fsspec = needed("fsspec", "sources", word)
    try:
        filesystem, place = fsspec.core.url_to_fs(word)
        if glob.has_magic(place):
            found = sorted(filesystem.glob(place))
        elif word.startswith(("http://", "https://")) or filesystem.isfile(place):
            return [_at(place, word)]
        else:
            found = sorted(filesystem.find(place))
    except ImportError as error:
        raise UserError(
            f"Another package is required to open this URL ({error}).", where=word
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"This URL cannot be opened ({error}).", where=word) from error
    if not found:
        raise UserError("There is nothing at this URL. A file is expected.", where=word)
    return [_at(place, filesystem.unstrip_protocol(place)) for place in found]


def _at(place: str, url: str) -> Source:
    name = place.rsplit("/", 1)[-1]
    return Source(name, url, [name, url, None])


def _nothing_at(word: str) -> UserError:
    path = Path(word)
    named = [BUILTIN_NAME, *CATALOG]
    beside = [str(path.parent / file.name) for file in sorted(path.parent.glob("[!.]*"))]
    nearest = difflib.get_close_matches(word, [*named, *beside], n=1)
    return UserError(
        "There is no such file, folder or named text. "
        + (f"Did you mean {nearest[0]}? " if nearest else "")
        + f"The named texts are {', '.join(named)}.",
        where=word,
        command=f"ls {quoted(path.parent)}" if path.parent.is_dir() else "",
    )


def looks_binary(path: Path) -> bool:
    """Whether a file cannot be read as text, judged by its suffix or its first bytes."""
    if path.suffix.lower() in _COMPRESSED_SUFFIXES | {".parquet"}:
        return False
    if path.suffix.lower() in _BINARY_SUFFIXES:
        return True
    with open(path, "rb") as file:
        return b"\0" in file.read(PROBE_BYTES)
