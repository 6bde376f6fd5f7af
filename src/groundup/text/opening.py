"""Open a source: decompress it, and recognize its encoding and format from its first bytes."""

import bz2
import gzip
import io
import lzma
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO

from groundup.base.errors import UserError
from groundup.base.extras import needed
from groundup.text.config import FileConfig
from groundup.text.documents import clean
from groundup.text.encodings import (
    UnreadableError,
    check_start,
    decoded,
    decoded_start,
    encoding_name,
)
from groundup.text.formats import (
    BINARY_SUFFIXES,
    PARQUET_START,
    Format,
    binary_kind,
    format_of,
)
from groundup.text.sources import COMPRESSED_SUFFIXES, Source, reading_errors

_HEAD_BYTES = 65_536
_COMPRESSED_CHUNK_BYTES = 4096
_DEEPEST = 4
"""How often a file may be compressed: a.gz.gz."""

_Opener = Callable[[Any], Any]


class _ZstandardFile:
    """Decompress frames one after another; unlike the library's reader, it notices a cut."""

    def __init__(self, raw: Any) -> None:
        self._decompressor = needed("zstandard", "sources", "a .zst file").ZstdDecompressor()
        self._raw, self._compressed, self._ready = raw, b"", b""
        self._frame: Any = None

    def __enter__(self) -> "_ZstandardFile":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is to be closed."""

    def read(self, size: int = -1) -> bytes:
        while (size < 0 or len(self._ready) < size) and self._read_more():
            pass
        size = len(self._ready) if size < 0 else size
        data, self._ready = self._ready[:size], self._ready[size:]
        return data

    def _read_more(self) -> bool:
        self._compressed = self._compressed or self._raw.read(_COMPRESSED_CHUNK_BYTES)
        if not self._compressed:
            if self._frame is not None:
                raise EOFError("the compressed data ends in the middle")
            return False
        if self._frame is None:
            self._frame = self._decompressor.decompressobj()
        self._ready += self._frame.decompress(self._compressed)
        self._compressed = b""
        if self._frame.eof:
            self._compressed, self._frame = self._frame.unused_data, None
        return True


_COMPRESSIONS: dict[bytes, _Opener] = {
    b"\x1f\x8b": lambda raw: gzip.GzipFile(fileobj=raw),
    b"\x28\xb5\x2f\xfd": _ZstandardFile,
    **{b"BZh%d1AY&SY" % level: bz2.BZ2File for level in range(1, 10)},
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
"""How to open what begins with these bytes."""


class OpenedFile:
    """An opened, decompressed source and its format."""

    def __init__(self, source: Source, stream: "_Stream", format: Format, encoding: str) -> None:
        self.source, self.format, self.encoding = source, format, encoding
        self._stream = stream

    @property
    def has_line_feeds(self) -> bool:
        """Whether lines end with line feeds, not with carriage returns alone (old Macintosh)."""
        start = decoded_start(self._stream.head, self.encoding)
        return "\n" in start or "\r" not in start

    def chunks(self, *, universal_newlines: bool = True) -> Iterator[str]:
        """Decode the file in chunks.

        Raises:
            UserError: It cannot be read, or has another encoding.
        """
        return decoded(
            self._stream,
            self.encoding,
            where=str(self.source),
            universal_newlines=universal_newlines,
        )

    @contextmanager
    def seekable(self) -> Iterator[BinaryIO]:
        """Give the file with random access; a stream without it is copied to a temporary file."""
        if self._stream.can_rewind():
            yield self._stream.raw
            return
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(self._stream, copy)
            copy.seek(0)
            yield copy


class _Stream:
    """A byte stream whose beginning was looked at; errors name the source."""

    def __init__(self, raw: Any, source: Source, *, is_plain: bool) -> None:
        self.raw, self.source, self._is_plain = raw, source, is_plain
        self.head = b""
        while len(self.head) < _HEAD_BYTES and (data := self._read(_HEAD_BYTES - len(self.head))):
            self.head += data
        self._rest_of_head = self.head

    def read(self, size: int = -1, /) -> bytes:
        """Read the next bytes; returns none at the end."""
        if not self._rest_of_head:
            return self._read(size)
        if size < 0:
            data, self._rest_of_head = self._rest_of_head + self._read(-1), b""
            return data
        data, self._rest_of_head = self._rest_of_head[:size], self._rest_of_head[size:]
        return data

    def readable(self) -> bool:
        """Whether it can be read; the decompressors ask."""
        return True

    def seekable(self) -> bool:
        """Whether it can be rewound; the decompressors ask."""
        return False

    def can_rewind(self) -> bool:
        """Rewind the raw stream, if it has random access."""
        if not self._is_plain:  # a decompressor would read its own source again
            return False
        try:
            self.raw.seek(0)
        except (AttributeError, OSError, ValueError, io.UnsupportedOperation):
            return False
        return True

    def _read(self, size: int) -> bytes:
        try:
            data: bytes = self.raw.read(size)
        except reading_errors() as error:
            if isinstance(error, UserError):
                raise
            raise UnreadableError(
                "unreadable files",
                f"This source cannot be read ({_reason(error)}).",
                where=str(self.source),
            ) from error
        return data


@contextmanager
def open_source(source: Source, config: FileConfig) -> Iterator[OpenedFile]:
    """Open a file or stream.

    Raises:
        UnreadableError: It cannot be read, is empty, binary, or has another encoding.
        UserError: Its name and its content disagree, or a package that opens it is not installed.
    """
    encoding = encoding_name(config.encoding)
    where = str(source)
    with ExitStack() as stack:
        stream = _Stream(_open_raw(source, stack), source, is_plain=True)
        is_compressed = False
        for _ in range(_DEEPEST):
            opener = _decompressor(stream.head)
            if opener is None:
                break
            unpacked = stack.enter_context(opener(stream))
            stream, is_compressed = _Stream(unpacked, source, is_plain=False), True
        if not stream.head:
            raise UnreadableError("empty files", "The file is empty.", where=where)
        is_parquet = stream.head.startswith(PARQUET_START) and b"\0" in stream.head
        if config.format != "auto":
            if is_parquet != (config.format == "parquet"):
                raise UserError(
                    "This is a Parquet file." if is_parquet else "This is not a Parquet file.",
                    where=where,
                    settings={"format": "parquet" if is_parquet else "auto"},
                )
            if not is_parquet:
                check_start(stream.head, encoding, where)
            yield OpenedFile(source, stream, config.format, encoding)
            return
        _check_name(source, stream.head, is_compressed, is_parquet, encoding)
        if is_parquet:
            yield OpenedFile(source, stream, "parquet", encoding)
            return
        check_start(stream.head, encoding, where)
        start = clean(decoded_start(stream.head, encoding))
        format = format_of(source.suffix, start, where=where)
        yield OpenedFile(source, stream, format, encoding)


def _format_inside(source: Source, head: bytes, encoding: str) -> Format:
    try:
        return format_of(source.suffix, clean(decoded_start(head, encoding)), where="")
    except UserError:
        return "text"


def _decompressor(head: bytes) -> _Opener | None:
    return next((opener for start, opener in _COMPRESSIONS.items() if head.startswith(start)), None)


def _open_raw(source: Source, stack: ExitStack) -> Any:
    try:
        if source.place == "-":
            if sys.stdin is None or getattr(sys.stdin, "closed", False):
                raise UserError("Standard input is closed. A pipe or a file is expected.")
            return sys.stdin.buffer
        if "://" in source.place:
            fsspec = needed("fsspec", "sources", source.place)
            return stack.enter_context(fsspec.open(source.place, "rb"))
        return stack.enter_context(open(source.place, "rb"))
    except reading_errors() as error:
        if isinstance(error, UserError):
            raise
        raise UnreadableError(
            "unreadable files",
            f"This source cannot be read ({_reason(error)}).",
            where=str(source),
        ) from error


def _reason(error: BaseException) -> str:
    """Say why something cannot be read; errors of HTTP often have no words of their own."""
    if isinstance(error, FileNotFoundError) and not error.strerror:
        return "nothing is at this address"
    return getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"


def _check_name(
    source: Source, head: bytes, is_compressed: bool, is_parquet: bool, encoding: str
) -> None:
    """Refuse a name that states a binary format or a compression that the content does not have."""
    where, kind = str(source), binary_kind(head)
    if kind is not None or (source.suffix in BINARY_SUFFIXES and not is_parquet):
        raise UnreadableError(
            "binary files",
            f"The file is binary data ({kind or f'as its suffix {source.suffix} states'}). A text "
            "file is expected.",
            where=where,
        )
    if source.compressed_suffix in COMPRESSED_SUFFIXES and not is_compressed:
        raise UserError(
            f"The name ends in {source.compressed_suffix}, but the content is not compressed. "
            "Rename the file, or choose its format.",
            where=where,
            settings={"format": _format_inside(source, head, encoding)},
        )
    if is_parquet and source.suffix not in (".parquet", ".pq", ""):
        raise UserError(
            f"The name ends in {source.suffix}, but the content is a Parquet file. Choose the "
            "format.",
            where=where,
            settings={"format": "parquet"},
        )
    if source.suffix in (".parquet", ".pq") and not is_parquet:
        raise UserError("This is not a Parquet file, but its name states it.", where=where)
