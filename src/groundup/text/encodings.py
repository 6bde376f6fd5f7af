"""Decode bytes as text: names of encodings, byte-order marks, and errors that name the byte."""

import codecs
import io
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from groundup.base.errors import UserError
from groundup.base.surrogates import has_surrogates

_CHUNK_BYTES = 2**20
_MARKS = (  # the mark of UTF-32-LE begins with that of UTF-16-LE
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)
_NO_TEXTS = ("undefined", "idna", "punycode", "unicode-escape", "raw-unicode-escape")
"""Codecs for parts of texts, and for the source code of Python."""
_NEEDS_MARK = ("utf-16", "utf-32")
"""Without a byte-order mark, Python would assume the byte order of the machine."""


class UnreadableError(UserError):
    """A file that is not readable text.

    Args:
        kind: What such files are, in the plural: "empty files".
        message: Whole sentences, as in `UserError`.
        where: The file.
        settings: Settings that help.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        where: str,
        settings: dict[str, object] | None = None,
    ) -> None:
        self.kind = kind
        super().__init__(message, where=where, settings=settings)


@runtime_checkable
class Readable(Protocol):
    """Something to read bytes from."""

    def read(self, size: int, /) -> bytes:
        """Read the next bytes; returns none at the end."""
        ...


def encoding_name(encoding: str) -> str:
    """Return the name by which Python knows an encoding.

    Raises:
        UserError: There is no text encoding of this name.

    >>> encoding_name("UTF16"), encoding_name("latin1")
    ('utf-16', 'iso8859-1')
    """
    try:
        codec = codecs.lookup(encoding)
        is_text = codec._is_text_encoding and codec.name not in _NO_TEXTS
    except (LookupError, ValueError):
        is_text = False
    if not is_text:
        raise UserError(
            f"The encoding {encoding!r} is unknown. A text encoding such as utf-8, utf-16, latin-1 "
            "or cp1252 is expected.",
            settings={"encoding": "utf-8"},
        )
    return codec.name


def check_start(head: bytes, encoding: str, where: str) -> None:
    """Compare the first bytes of a file with the encoding that it should have.

    Args:
        head: The first bytes; not empty.
        encoding: The normalized name of the encoding.
        where: The file, for messages.

    Raises:
        UnreadableError: The file has another encoding, or is binary.
    """
    mark = next((name for start, name in _MARKS if head.startswith(start)), None)
    base = _without_order(encoding)
    if mark is not None and encoding.removesuffix("-sig") not in (mark, _without_order(mark)):
        mark = _without_order(mark)
        raise UnreadableError(
            f"files encoded in {mark.upper()}",
            f"The text is encoded in {mark.upper()}, as its byte-order mark states, "
            f"not in {encoding}.",
            where=where,
            settings={"encoding": mark},
        )
    if mark is None and encoding in _NEEDS_MARK:
        raise UnreadableError(
            f"files without the byte-order mark of {encoding.upper()}",
            f"The text has no byte-order mark, which states the byte order of {encoding}. Another "
            f"encoding is expected: utf-8, or {encoding}-le or {encoding}-be.",
            where=where,
            settings={"encoding": _byte_order(head, encoding) if b"\0" in head else "utf-8"},
        )
    if b"\0" in head and base not in _NEEDS_MARK:
        raise UnreadableError(
            "binary files",
            "The file looks like binary data (it contains zero bytes). A text file is expected. "
            "Set the encoding if this is text in UTF-16 without a byte-order mark.",
            where=where,
        )


def _without_order(encoding: str) -> str:
    return encoding.removesuffix("-sig").removesuffix("-le").removesuffix("-be")


def _byte_order(head: bytes, encoding: str) -> str:
    """Add the byte order: the zero bytes of most letters are on the side of the high bytes."""
    width = 4 if encoding == "utf-32" else 2
    first, last = head[::width].count(0), head[width - 1 :: width].count(0)
    return f"{encoding}-be" if first > last else f"{encoding}-le"


def decoded_start(head: bytes, encoding: str) -> str:
    """Decode the first bytes of a file leniently, without a byte-order mark."""
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    try:
        text = decoder.decode(head)
    except UnicodeError:  # a codec that knows no lenient mode
        return ""
    return text.removeprefix("\ufeff")


def decoded(
    file: Readable, encoding: str, *, where: str, universal_newlines: bool = True
) -> Iterator[str]:
    """Decode a byte stream in chunks; a byte-order mark at its start is removed.

    Args:
        file: An opened file.
        encoding: The name of a text encoding.
        where: The file, for messages.
        universal_newlines: Convert all line ends to line feeds.

    Raises:
        UnreadableError: A byte is not in this encoding, or the text contains zero characters or
            half of a surrogate pair.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    line_ends = io.IncrementalNewlineDecoder(None, translate=True)
    n_read, data = 0, b"-"
    while data:
        data = file.read(_CHUNK_BYTES)
        n_pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeError as error:
            raise _not_in_encoding(error, n_read - n_pending, encoding, where) from error
        if "\0" in text:
            raise UnreadableError(
                "files with zero characters",
                f"The text contains a zero character (near byte {n_read:,}) after decoding from "
                f"{encoding}. Text in its right encoding is expected; binary data is not text.",
                where=where,
            )
        if has_surrogates(text):  # UTF-7 can spell them
            raise UnreadableError(
                "files with half of a surrogate pair",
                f"The text contains half of a surrogate pair (near byte {n_read:,}) after decoding "
                f"from {encoding}. Complete characters are expected.",
                where=where,
            )
        if universal_newlines:
            text = line_ends.decode(text, final=not data)
        yield text.removeprefix("\ufeff") if n_read == 0 else text
        n_read += len(data)


def _not_in_encoding(error: UnicodeError, start: int, encoding: str, where: str) -> UnreadableError:
    place = f"The text is not valid {encoding} ({error})"
    if isinstance(error, UnicodeDecodeError):
        place = (
            f"Byte {start + error.start:,} (0x{error.object[error.start]:02x}) is not {encoding}"
        )
    return UnreadableError(
        f"files that are not {encoding}",
        f"{place}. The encoding in which the file was saved is expected, for example latin-1, "
        "cp1252 or utf-16.",
        where=where,
        settings={"encoding": "latin-1" if encoding != "iso8859-1" else "utf-8"},
    )
