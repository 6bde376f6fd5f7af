"""Documents from where the user has them: text, Markdown, JSON lines, CSV, Parquet, packed or not.

One file is one document, unless it holds records (a record, a document) or a separator is given.
Text passes through in pieces, so that a file of any size takes constant memory; only a single
record is held whole. Nothing is silently repaired: what cannot be read is named, with the place
and what to type.
"""

import codecs
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import orjson

from groundup.base.errors import UserError
from groundup.base.extras import needed
from groundup.base.files import sha256_bytes
from groundup.text.clean import clean
from groundup.text.pieces import Piece, cut_into_pieces
from groundup.text.sources import PROBE_BYTES, ByteStream, Source, find_sources

_CHUNK_BYTES = 2**20
HUGGING_FACE = "hf:"
"""Begins a source that the `datasets` library opens."""


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
    """Read documents one by one and whole; the arguments and errors are those of `read_pieces`."""
    pieces = read_pieces(sources, encoding=encoding, separator=separator, text_field=text_field)
    return join_pieces(pieces)


def join_pieces(pieces: Iterable[Piece]) -> Iterator[Document]:
    """Put whole documents together again."""
    parts: list[str] = []
    for piece in pieces:
        parts.append(piece.text)
        if piece.is_last:
            yield Document(piece.name, "".join(parts))
            parts = []


def read_pieces(
    sources: Sequence[str | Source],
    *,
    encoding: str = "utf-8",
    separator: str | None = None,
    text_field: str = "text",
) -> Iterator[Piece]:
    """Read documents in pieces, in the order of the sources, folders sorted by name.

    Args:
        sources: Paths of files or folders, globs, URLs, "-" for standard input, or "hf:NAME" for
            the training split of a Hugging Face dataset.
        encoding: How the files' bytes spell characters.
        separator: A string that ends a document inside a text file, e.g. "<|endoftext|>".
        text_field: Which field or column of a record holds the text.

    Raises:
        UserError: A source is missing, empty, binary, wrongly encoded or malformed.
    """
    n_documents = 0
    for word in sources:
        for name, chunks in _documents(word, encoding, separator, text_field):
            visible = _from_first_word(chunks)
            if visible is not None:
                n_documents += 1
                yield from cut_into_pieces(name, visible)
    if n_documents == 0:
        raise UserError(
            "there is no text here",
            need="at least one file with words in it",
            where=", ".join(map(str, sources)) or "no source",
            type_this="groundup story my.txt",
        )


Named = tuple[str, Iterable[str]]
"""A document's name, and its text in chunks."""


def _documents(
    word: str | Source, encoding: str, separator: str | None, text_field: str
) -> Iterator[Named]:
    if isinstance(word, str) and word.startswith(HUGGING_FACE):
        yield from _hugging_face(word, text_field)
        return
    for source in [word] if isinstance(word, Source) else find_sources(word):
        with source.open() as file:
            if source.suffix == ".parquet":
                yield from _parquet(source, file, text_field)
                continue
            chunks = _decoded(source, file, encoding)
            match source.suffix:
                case ".jsonl" | ".ndjson":
                    yield from _json_lines(source.name, chunks, text_field)
                case ".csv" | ".tsv":
                    yield from _table(source, chunks, text_field)
                case _ if separator:
                    yield from _separated(source.name, chunks, separator)
                case _:
                    yield source.name, chunks


def _decoded(source: Source, file: ByteStream, encoding: str) -> Iterator[str]:
    """Decode a byte stream; every line ends in a line feed, a byte-order mark is dropped."""
    where = source.place if source.place != "-" else source.name
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError as error:
        raise UserError(f"unknown encoding {encoding!r}", need="utf-8, latin-1, ...") from error
    line_ends = io.IncrementalNewlineDecoder(None, translate=True)
    n_read, data = 0, b"-"
    while data:
        data = source.read(file, _CHUNK_BYTES)
        if n_read == 0:
            _refuse_binary(data, encoding, where)
        n_pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise UserError(
                f"byte {n_read - n_pending + error.start:,} (0x{error.object[error.start]:02x}) "
                f"is not {encoding}",
                need="the encoding the file was written in",
                where=where,
                type_this="the same command with --encoding latin-1 (or cp1252, utf-16)",
            ) from error
        text = line_ends.decode(text, final=not data)
        yield text.removeprefix("\ufeff") if n_read == 0 else text
        n_read += len(data)


def _refuse_binary(data: bytes, encoding: str, where: str) -> None:
    if not data:
        raise UserError("this file is empty", need="some text", where=where)
    if b"\0" not in data[:PROBE_BYTES] or encoding.lower().startswith(("utf-16", "utf-32")):
        return
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(
            f"this text is UTF-16, not {encoding}",
            need="the encoding the file was written in",
            where=where,
            type_this="the same command with --encoding utf-16",
        )
    raise UserError(
        "this looks like binary data (it holds zero bytes), not text",
        need="a text file",
        where=where,
    )


def _lines(chunks: Iterable[str]) -> Iterator[str]:
    """Give lines without their line feed; no other character ends one (U+2028 does not)."""
    rest: list[str] = []
    for chunk in chunks:
        first, *others = chunk.split("\n")
        rest.append(first)
        if others:
            yield "".join(rest)
            yield from others[:-1]
            rest = [others[-1]]
    yield "".join(rest)


def _json_lines(name: str, chunks: Iterable[str], text_field: str) -> Iterator[Named]:
    for number, line in enumerate(_lines(chunks), 1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise UserError(f"this line is not JSON ({error})", where=where) from error
        yield where, [_field(record, text_field, where)]


def _table(source: Source, chunks: Iterable[str], text_field: str) -> Iterator[Named]:
    csv.field_size_limit(2**31 - 1)
    lines = (line + "\n" for line in _lines(chunks))
    rows = csv.DictReader(lines, delimiter="\t" if source.suffix == ".tsv" else ",")
    try:
        for number, row in enumerate(rows, 1):
            where = f"{source.name}:{number}"
            yield where, [_field(row, text_field, where)]
    except csv.Error as error:
        raise UserError(
            f"line {rows.line_num} is not {source.suffix[1:]} ({error})", where=source.place
        ) from error


def _parquet(source: Source, file: ByteStream, text_field: str) -> Iterator[Named]:
    parquet = needed("pyarrow.parquet", "sources", source.place)
    arrow = needed("pyarrow", "sources", source.place)
    try:
        table = parquet.ParquetFile(file)
        if text_field not in table.schema_arrow.names:
            _field(dict.fromkeys(table.schema_arrow.names), text_field, source.name)
        number = 0
        for batch in table.iter_batches(batch_size=256, columns=[text_field]):
            for text in batch.column(0).to_pylist():
                number += 1
                where = f"{source.name}:{number}"
                yield where, [_field({text_field: text}, text_field, where)]
    except arrow.ArrowInvalid as error:
        raise UserError(f"this is no Parquet file ({error})", where=source.place) from error


def _hugging_face(word: str, text_field: str) -> Iterator[Named]:
    """Stream `hf:NAME`, or `hf:NAME:SPLIT` for another split than train."""
    datasets = needed("datasets", "datasets", word)
    name, split = word.removeprefix(HUGGING_FACE), "train"
    if ":" in name:
        name, split = name.rsplit(":", 1)
    try:
        rows = datasets.load_dataset(name, split=split, streaming=True)
        for number, row in enumerate(rows, 1):
            yield f"{name}:{number}", [_field(row, text_field, f"{name}:{number}")]
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"the dataset {name} cannot be read ({error})", where=word) from error


def _separated(name: str, chunks: Iterable[str], separator: str) -> Iterator[Named]:
    rest, number = "", 0
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(separator)
        for part in whole:
            number += 1
            yield f"{name}:{number}", [part.strip("\n")]
    yield f"{name}:{number + 1}", [rest.strip("\n")]


def _field(record: object, text_field: str, where: str) -> str:
    text = record.get(text_field) if isinstance(record, dict) else None
    if not isinstance(text, str):
        there = ", ".join(map(str, record)) if isinstance(record, dict) else type(record).__name__
        raise UserError(
            f"this record has no text in a field {text_field!r} (it has: {there})",
            need="the name of the field that holds the text",
            where=where,
            type_this="--text-field NAME",
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            "this record holds half a surrogate pair, which is no character",
            need="text that UTF-8 can spell",
            where=where,
        ) from error
    return clean(text)


def _from_first_word(chunks: Iterable[str]) -> Iterator[str] | None:
    """Give the chunks if there is anything to see in them; the blank ones before are kept."""
    held = ""
    rest = iter(chunks)
    for chunk in rest:
        held += chunk
        if not chunk.isspace() and chunk:
            return chain([held], rest)
    return None
