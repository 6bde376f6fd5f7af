"""Documents from where the user has them: files, folders, globs, standard input.

One file is one document, unless it is JSON lines (one record, one document) or a separator is
given. Compressed `.gz` files are read as what they hold. Nothing is silently repaired: what cannot
be read is named, with the place and what to type.
"""

import codecs
import glob
import gzip
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from groundup.base.errors import UserError
from groundup.base.files import sha256_bytes
from groundup.text.clean import clean

_BINARY_SUFFIXES = {".png", ".jpg", ".jpeg", ".gif", ".pdf", ".zip", ".exe", ".so", ".bin", ".npy"}
_PROBE_BYTES = 65_536


@dataclass(frozen=True)
class Document:
    """A text with a name.

    >>> Document("a", "Grüße").n_bytes
    7
    """

    name: str
    text: str

    @property
    def n_bytes(self) -> int:
        """Its size in UTF-8."""
        return len(self.text.encode("utf-8"))

    @property
    def sha256(self) -> str:
        """The fingerprint of its text."""
        return sha256_bytes(self.text.encode("utf-8"))


def read_documents(
    sources: Sequence[str],
    *,
    encoding: str = "utf-8",
    separator: str | None = None,
    text_field: str = "text",
) -> Iterator[Document]:
    """Read documents one by one, in the order of the sources, folders sorted by name.

    Args:
        sources: Paths of files or folders, globs, or "-" for standard input.
        encoding: How the files' bytes spell characters.
        separator: A string that ends a document inside a file, e.g. "<|endoftext|>".
        text_field: Which field of a JSON-lines record holds the text.

    Raises:
        UserError: A source is missing, empty, binary, wrongly encoded or malformed.
    """
    n_documents = 0
    for source in sources:
        for name, data in _files(source):
            for document in _documents(name, data, encoding, separator, text_field):
                if document.text.strip():
                    n_documents += 1
                    yield document
    if n_documents == 0:
        raise UserError(
            "there is no text here",
            need="at least one file with words in it",
            where=", ".join(sources) or "no source",
            type_this="groundup story my.txt",
        )


def _files(source: str) -> Iterator[tuple[str, bytes]]:
    if source == "-":
        yield "stdin", sys.stdin.buffer.read()
        return
    path = Path(source)
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
                need="a txt, md or jsonl file",
                where=source,
            )
        for file in readable:
            yield str(file.relative_to(path)), _read(file)
        return
    if path.exists():
        yield path.name, _read(path)
        return
    found = sorted(glob.glob(source, recursive=True)) if glob.has_magic(source) else []
    if not found:
        raise UserError(
            "there is no such file, folder or named text",
            need="a path that exists",
            where=source,
            type_this=f"ls {path.parent}",
        )
    for name in found:
        if Path(name).is_file():
            yield name, _read(Path(name))


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError) as error:
        raise UserError(f"this file cannot be read ({error})", where=path) from error
    if not data:
        raise UserError("this file is empty", need="some text", where=path)
    return data


def _looks_binary(path: Path) -> bool:
    if path.suffix == ".gz":
        return False
    if path.suffix.lower() in _BINARY_SUFFIXES:
        return True
    with open(path, "rb") as file:
        return b"\0" in file.read(_PROBE_BYTES)


def _documents(
    name: str, data: bytes, encoding: str, separator: str | None, text_field: str
) -> Iterator[Document]:
    text = clean(_decode(name, data, encoding))
    if name.removesuffix(".gz").endswith(".jsonl"):
        for number, line in enumerate(text.split("\n"), 1):  # U+2028 ends no record
            if line.strip():
                yield Document(f"{name}:{number}", _field(line, text_field, f"{name}:{number}"))
    elif separator:
        for number, part in enumerate(text.split(separator), 1):
            yield Document(f"{name}:{number}", part.strip("\n"))
    else:
        yield Document(name, text)


def _decode(name: str, data: bytes, encoding: str) -> str:
    if b"\0" in data[:_PROBE_BYTES] and not encoding.lower().startswith(("utf-16", "utf-32")):
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise UserError(
                f"this text is UTF-16, not {encoding}",
                need="the encoding the file was written in",
                where=name,
                type_this="the same command with --encoding utf-16",
            )
        raise UserError(
            "this looks like binary data (it holds zero bytes), not text",
            need="a text file",
            where=name,
        )
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(
            f"byte {error.start:,} (0x{data[error.start]:02x}) is not {encoding}",
            need="the encoding the file was written in",
            where=name,
            type_this="the same command with --encoding latin-1 (or cp1252, utf-16)",
        ) from error
    except LookupError as error:
        raise UserError(f"unknown encoding {encoding!r}", need="utf-8, latin-1, ...") from error


def _field(line: str, text_field: str, where: str) -> str:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"this line is not JSON ({error})", where=where) from error
    if not isinstance(record, dict) or not isinstance(record.get(text_field), str):
        there = ", ".join(record) if isinstance(record, dict) else type(record).__name__
        raise UserError(
            f"this record has no text in a field {text_field!r} (it has: {there})",
            need="the name of the field that holds the text",
            where=where,
            type_this="--text-field NAME",
        )
    return clean(record[text_field])
