"""Where texts are: files, folders, globs, standard input, and whatever fsspec opens by URL.

Each source word becomes named byte streams; `.gz` and `.zst` are opened as what they hold. Nothing
is read here beyond the first bytes that tell text from binary data.
"""

import glob
import gzip
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, runtime_checkable

from groundup.base.errors import UserError, quoted
from groundup.base.extras import needed

_BINARY_SUFFIXES = {".png", ".jpg", ".jpeg", ".gif", ".pdf", ".zip", ".exe", ".so", ".bin", ".npy"}
_PACKED_SUFFIXES = {".gz", ".zst"}
PROBE_BYTES = 65_536


@runtime_checkable
class ByteStream(Protocol):
    """What every opened source can do."""

    def read(self, size: int = -1, /) -> bytes:
        """Give the next bytes, none at the end."""
        ...


@dataclass(frozen=True)
class Source:
    """One file to read: what to call it, and where it is."""

    name: str
    place: str
    """A path, a URL, or - for standard input."""

    def __str__(self) -> str:
        """Show where it is, in messages."""
        return self.name if self.place == "-" else self.place

    @property
    def suffix(self) -> str:
        """What kind of file it is, behind any compression: ".jsonl" for a.jsonl.gz."""
        suffixes = [suffix.lower() for suffix in PurePosixPath(self.name).suffixes]
        while suffixes and suffixes[-1] in _PACKED_SUFFIXES:
            suffixes.pop()
        return suffixes[-1] if suffixes else ""

    @property
    def n_bytes(self) -> int | None:
        """How large the file is, still packed; None where only reading would tell."""
        if self.place == "-" or "://" in self.place:
            return None
        return Path(self.place).stat().st_size

    @property
    def stamp(self) -> list[Any]:
        """What changes when the file does: its size and its time; None where unknown."""
        if self.n_bytes is None:
            return [self.name, self.place, None]
        found = Path(self.place).stat()
        return [self.name, str(Path(self.place).resolve()), found.st_size, found.st_mtime_ns]

    @contextmanager
    def open(self) -> Iterator[ByteStream]:
        """Open the bytes it holds, unpacked.

        Raises:
            UserError: It cannot be read, or a package for it is missing.
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
            raise UserError(f"this cannot be read ({error})", where=self.place) from error

    def read(self, file: ByteStream, size: int) -> bytes:
        """Read on in the opened file.

        Raises:
            UserError: It cannot be read, or what was packed is damaged.
        """
        zstandard = sys.modules.get("zstandard")
        damage = (OSError, EOFError, zlib.error, *([zstandard.ZstdError] if zstandard else []))
        try:
            return file.read(size)
        except damage as error:
            raise UserError(f"this cannot be read ({error})", where=self.place) from error


def find_sources(word: str) -> list[Source]:
    """Turn what the user typed into the files it names, folders and globs in sorted order.

    Raises:
        UserError: There is no such place, or nothing readable in it.
    """
    if word == "-":
        return [Source("stdin", "-")]
    if "://" in word:
        return _at_url(word)
    path = Path(word)
    if path.is_dir():
        inside = sorted(
            file
            for file in path.rglob("*")
            if file.is_file()
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        )
        readable = [file for file in inside if not _looks_binary(file)]
        if not readable:
            raise UserError(
                f"this folder holds no text file ({len(inside)} files looked at)",
                need="a txt, md, jsonl, csv or parquet file",
                where=word,
            )
        return [Source(str(file.relative_to(path)), str(file)) for file in readable]
    if path.exists():
        return [Source(path.name, word)]
    found = sorted(glob.glob(word, recursive=True)) if glob.has_magic(word) else []
    files = [Source(name, name) for name in found if Path(name).is_file()]
    if not files:
        raise UserError(
            "there is no such file, folder or named text",
            need="a path that exists",
            where=word,
            type_this=f"ls {quoted(path.parent)}",
        )
    return files


def _at_url(word: str) -> list[Source]:
    fsspec = needed("fsspec", "sources", word)
    try:
        filesystem, place = fsspec.core.url_to_fs(word)
        if glob.has_magic(place):
            found = sorted(filesystem.glob(place))
        elif word.startswith(("http://", "https://")) or filesystem.isfile(place):
            return [Source(place.rsplit("/", 1)[-1], word)]
        else:
            found = sorted(filesystem.find(place))
    except ImportError as error:
        raise UserError(f"this kind of URL needs another package ({error})", where=word) from error
    except (OSError, ValueError) as error:
        raise UserError(f"this URL cannot be opened ({error})", where=word) from error
    if not found:
        raise UserError("there is nothing at this URL", where=word)
    return [Source(name.rsplit("/", 1)[-1], filesystem.unstrip_protocol(name)) for name in found]


def _looks_binary(path: Path) -> bool:
    if path.suffix.lower() in _PACKED_SUFFIXES | {".parquet"}:
        return False
    if path.suffix.lower() in _BINARY_SUFFIXES:
        return True
    with open(path, "rb") as file:
        return b"\0" in file.read(PROBE_BYTES)
