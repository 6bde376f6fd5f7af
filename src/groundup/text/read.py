"""Read documents from text, Markdown, JSON lines, CSV and Parquet files, compressed or not.

One file is one document, unless it contains records (one document per record) or a separator is
given. Text passes through in pieces, so that a file of any size takes constant memory; only a
single record is held in memory completely. Nothing is repaired silently: an error names the file,
the place in it and a setting that helps.
"""

import codecs
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from groundup.base.errors import UserError
from groundup.base.extras import needed
from groundup.text.builtin import python_reference
from groundup.text.documents import Document, clean, join_pieces
from groundup.text.jsonl import parse_json_lines
from groundup.text.pieces import Piece, cut_into_pieces
from groundup.text.sources import HUGGING_FACE, PROBE_BYTES, ByteStream, Source, find_sources

_CHUNK_BYTES = 2**20


def read_documents(
    sources: Sequence[str],
    *,
    encoding: str = "utf-8",
    separator: str | None = None,
    text_field: str = "text",
) -> Iterator[Document]:
    """Read complete documents one by one; arguments and errors are those of `read_pieces`."""
    pieces = read_pieces(sources, encoding=encoding, separator=separator, text_field=text_field)
    return join_pieces(pieces)


def read_pieces(
    sources: Sequence[str | Source],
    *,
    encoding: str = "utf-8",
    separator: str | None = None,
    text_field: str = "text",
) -> Iterator[Piece]:
    """Read documents in pieces, in the order of the sources; files of a folder are sorted by name.

    Args:
        sources: Whatever `find_sources` accepts: files, folders, globs, URLs, "-" for standard
            input, "hf:NAME" for a Hugging Face dataset, or the name of a public text.
        encoding: The encoding of the files.
        separator: A string that ends a document inside a text file, e.g. "<|endoftext|>".
        text_field: The field or column of a record that contains the text.

    Raises:
        UserError: A source is missing, empty, binary, malformed or has another encoding.
    """
    n_documents = 0
    for word in sources:
        for source in [word] if isinstance(word, Source) else find_sources(word):
            for name, chunks in _documents(source, encoding, separator, text_field):
                visible = _from_first_word(chunks)
                if visible is not None:
                    n_documents += 1
                    yield from cut_into_pieces(name, visible)
    if n_documents == 0:
        raise UserError(
            "There is no text. At least one file with words in it is expected.",
            where=", ".join(map(str, sources)) or "no source",
        )


Named = tuple[str, Iterable[str]]
"""A document's name, and its text in chunks."""


def _documents(
    source: Source, encoding: str, separator: str | None, text_field: str
) -> Iterator[Named]:
    if source.is_builtin:
        yield from ((document.name, [document.text]) for document in python_reference())
        return
    if source.is_hugging_face:
        yield from _hugging_face(source.place, text_field)
        return
    with source.open() as file:
        if source.suffix == ".parquet":
            yield from _parquet(source, file, text_field)
            return
        chunks = _decoded(source, file, encoding)
        match source.suffix:
            case ".jsonl" | ".ndjson":
                for number, record in parse_json_lines(_lines(chunks), where=source.name):
                    where = f"{source.name}:{number}"
                    yield where, [_field(record, text_field, where)]
            case ".csv" | ".tsv":
                yield from _table(source, chunks, text_field)
            case _ if separator:
                yield from _separated(source.name, chunks, separator)
            case _:
                yield source.name, chunks


def _decoded(source: Source, file: ByteStream, encoding: str) -> Iterator[str]:
    """Decode a byte stream, converting line ends to line feeds and removing a byte-order mark."""
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError as error:
        raise UserError(
            f"The encoding {encoding!r} is unknown. A name such as utf-8 or latin-1 is expected.",
            settings={"encoding": "utf-8"},
        ) from error
    line_ends = io.IncrementalNewlineDecoder(None, translate=True)
    n_read, data = 0, b"-"
    while data:
        data = source.read(file, _CHUNK_BYTES)
        if n_read == 0:
            _refuse_binary(data, encoding, str(source))
        n_pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise UserError(
                f"Byte {n_read - n_pending + error.start:,} (0x{error.object[error.start]:02x}) "
                f"is not {encoding}. The encoding in which the file was saved is expected, "
                "for example latin-1, cp1252 or utf-16.",
                where=str(source),
                settings={"encoding": "latin-1"},
            ) from error
        text = line_ends.decode(text, final=not data)
        yield text.removeprefix("\ufeff") if n_read == 0 else text
        n_read += len(data)


def _refuse_binary(data: bytes, encoding: str, where: str) -> None:
    if not data:
        raise UserError("The file is empty. A text is expected.", where=where)
    if b"\0" not in data[:PROBE_BYTES] or encoding.lower().startswith(("utf-16", "utf-32")):
        return
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(
            f"The text is encoded in UTF-16, not in {encoding}.",
            where=where,
            settings={"encoding": "utf-16"},
        )
    raise UserError(
        "The file looks like binary data (it contains zero bytes). A text file is expected.",
        where=where,
    )


def _lines(chunks: Iterable[str]) -> Iterator[str]:
    """Split into lines without their line feed; no other character ends one (U+2028 does not)."""
    rest: list[str] = []
    for chunk in chunks:
        first, *others = chunk.split("\n")
        rest.append(first)
        if others:
            yield "".join(rest)
            yield from others[:-1]
            rest = [others[-1]]
    yield "".join(rest)


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
            f"Line {rows.line_num} is not valid {source.suffix[1:].upper()} ({error}).",
            where=source.place,
        ) from error


def _parquet(source: Source, file: ByteStream, text_field: str) -> Iterator[Named]:
    parquet = needed("pyarrow.parquet", "sources", source.place)
    arrow = needed("pyarrow", "sources", source.place)
    try:
        table = parquet.ParquetFile(file)
        if text_field not in table.schema_arrow.names:
            columns = {c.name: "" if c.type == arrow.string() else None for c in table.schema_arrow}
            _field(columns, text_field, source.name)
        number = 0
        for batch in table.iter_batches(batch_size=256, columns=[text_field]):
            for text in batch.column(0).to_pylist():
                number += 1
                where = f"{source.name}:{number}"
                yield where, [_field({text_field: text}, text_field, where)]
    except arrow.ArrowInvalid as error:
        raise UserError(f"This is not a Parquet file ({error}).", where=source.place) from error


def _hugging_face(place: str, text_field: str) -> Iterator[Named]:
    """Stream `hf:NAME`, or `hf:NAME:SPLIT` for another split than train."""
    datasets = needed("datasets", "datasets", place)
    name, split = place.removeprefix(HUGGING_FACE), "train"
    if ":" in name:
        name, split = name.rsplit(":", 1)
    try:
        rows = datasets.load_dataset(name, split=split, streaming=True)
        for number, row in enumerate(rows, 1):
            yield f"{name}:{number}", [_field(row, text_field, f"{name}:{number}")]
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"The dataset {name} cannot be read ({error}).", where=place) from error


def _separated(name: str, chunks: Iterable[str], separator: str) -> Iterator[Named]:
    rest, number = "", 0
    for chunk in chunks:
        *complete, rest = (rest + chunk).split(separator)
        for part in complete:
            number += 1
            yield f"{name}:{number}", [part.strip("\n")]
    yield f"{name}:{number + 1}", [rest.strip("\n")]


def _field(record: object, text_field: str, where: str) -> str:
    if not isinstance(record, dict):
        raise UserError(
            f"This record is a {type(record).__name__}. "
            f"An object with its text in a field {text_field!r} is expected.",
            where=where,
        )
    text = record.get(text_field)
    if not isinstance(text, str):
        texts = {name: len(value) for name, value in record.items() if isinstance(value, str)}
        longest = max(texts, key=texts.__getitem__, default=None)
        raise UserError(
            f"This record has no text in a field {text_field!r} "
            f"(it has: {', '.join(map(str, record))}). "
            "The name of the field that contains the text is expected.",
            where=where,
            settings={} if longest is None else {"text_field": longest},
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            "The text of this record contains half of a surrogate pair, which is not a character.",
            where=where,
        ) from error
    return clean(text)


def _from_first_word(chunks: Iterable[str]) -> Iterator[str] | None:
    """Return the chunks if any contains a visible character; blank ones before it are kept."""
    held = ""
    rest = iter(chunks)
    for chunk in rest:
        held += chunk
        if not chunk.isspace() and chunk:
            return chain([held], rest)
    return None
