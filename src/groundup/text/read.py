"""Read documents from any source, in pieces.

One file is one document, unless it contains records (one document per record) or a separator is
given. Text passes through in pieces, so that a file of any size takes constant memory; only a
single record is held in memory completely. Nothing is repaired silently: an error names the file,
the place in it and a setting that helps, and what is left out is counted.
"""

import os
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from groundup.base.errors import UserError
from groundup.text.builtin import BUILTIN_TEXTS
from groundup.text.config import ReadConfig
from groundup.text.documents import Document, clean, join_pieces
from groundup.text.encodings import UnreadableError
from groundup.text.left_out import LeftOut
from groundup.text.opening import open_source
from groundup.text.pieces import Piece, cut_into_pieces
from groundup.text.records import NullError, Record, dataset_records, file_records
from groundup.text.sources import Source, find_sources

_HELD_CHARACTERS = 2**23
"""A file of a folder is held until it is read completely, up to this size."""
_COST_OF_A_PIECE = 2**6
"""Characters that take as much memory as an empty piece."""

_WITHOUT_SEPARATOR = "files in which the separator does not occur"
_RECORDS = "files of records, to which the separator does not apply"

SourceWord = str | os.PathLike[str] | Source


def read_documents(
    sources: SourceWord | Iterable[SourceWord], **settings: Any
) -> Iterator[Document]:
    """Read complete documents one by one.

    Args:
        sources: One source or several, as for `read_pieces`.
        **settings: The settings of `ReadConfig`: format, encoding, separator, text_field,
            skip_empty, strict.

    Raises:
        UserError: As for `read_pieces`.
    """
    return join_pieces(read_pieces(sources, ReadConfig(**settings)))


def read_pieces(
    sources: SourceWord | Iterable[SourceWord],
    config: ReadConfig | None = None,
    *,
    left_out: LeftOut | None = None,
) -> Iterator[Piece]:
    """Read documents in pieces, in the order of the sources; files of a folder are sorted by name.

    A file that was not named itself, but found in a folder or by a glob, is left out if it is empty
    or unreadable, unless the config is strict.

    Args:
        sources: One source or several, of whatever `find_sources` accepts: files, folders, globs,
            URLs, "-" for standard input, "hf:NAME" for a Hugging Face dataset, or the name of a
            public text.
        config: The format and encoding of the files, and so on. None: the defaults.
        left_out: Counts what is left out.

    Raises:
        UserError: A source is missing, empty, binary, malformed or has another encoding.
    """
    config = ReadConfig() if config is None else config
    left_out = LeftOut() if left_out is None else left_out
    words = [sources] if isinstance(sources, str | os.PathLike | Source) else list(sources)
    n_documents = 0
    first_error: UserError | None = None
    for word in words:
        found = [word] if isinstance(word, Source) else find_sources(word, left_out=left_out)
        for source in found:
            try:
                for piece in _readable_pieces(source, config, left_out):
                    n_documents += piece.is_first
                    yield piece
            except _LeftOutError as left:
                first_error = first_error or left.error
    if n_documents == 0:
        if first_error is not None:
            raise first_error
        raise UserError(
            "There is no text. At least one file with words in it is expected.",
            where=", ".join(map(str, words)) or "no source",
        )


class _LeftOutError(Exception):
    """A file of a folder was left out."""

    def __init__(self, error: UserError) -> None:
        self.error = error


def _readable_pieces(source: Source, config: ReadConfig, left_out: LeftOut) -> Iterator[Piece]:
    """Read the pieces of a source; a file of a folder is read completely or left out.

    One that turns out to be unreadable after its first `_HELD_CHARACTERS` ends the reading.

    Raises:
        _LeftOutError: It is left out.
        UserError: It was named itself, the config is strict, or its beginning was read already.
    """
    pieces = _pieces(source, config, left_out)
    if not source.is_found or config.strict:
        yield from pieces
        return
    held: list[Piece] = []
    size = 0
    try:
        for piece in pieces:
            held.append(piece)
            size += len(piece.text) + _COST_OF_A_PIECE
            if size > _HELD_CHARACTERS:
                break
    except UserError as error:
        kind = error.kind if isinstance(error, UnreadableError) else "unreadable files"
        shown = source.name if isinstance(error, UnreadableError) else error.located
        left_out.add(kind, shown)
        left_out.unread.append([source.stamp, source.changed_ns])
        raise _LeftOutError(error) from error
    yield from held
    del held
    try:
        yield from pieces
    except UnreadableError as error:
        raise UserError(
            f"{error.message} The beginning of the file was read, so it is not left out. Move it "
            "to another folder, or name the files to read; settings apply to all of them.",
            where=error.where,
        ) from error


def _pieces(source: Source, config: ReadConfig, left_out: LeftOut) -> Iterator[Piece]:
    for name, chunks in _documents(source, config, left_out):
        visible = _from_first_word(chunks)
        if visible is None:
            left_out.add("documents without text", name)
        else:
            yield from cut_into_pieces(name, visible)


Named = tuple[str, Iterable[str]]
"""A document's name, and its text in chunks."""


def _documents(source: Source, config: ReadConfig, left_out: LeftOut) -> Iterator[Named]:
    if source.is_builtin:
        yield from ((document.name, [document.text]) for document in BUILTIN_TEXTS[source.place]())
    elif source.is_hugging_face:
        yield from _texts(dataset_records(source), config, left_out)
    else:
        with open_source(source, config) as file:
            if file.format != "text":
                if config.separator:
                    left_out.add(_RECORDS, source.name, action="Kept as they are")
                fields = [config.text_field]
                records = file_records(file, fields=fields, left_out=left_out)
                yield from _texts(records, config, left_out)
            elif config.separator:
                yield from _separated(source.name, file.chunks(), config.separator, left_out)
            else:
                yield source.name, file.chunks()


def _texts(records: Iterable[Record], config: ReadConfig, left_out: LeftOut) -> Iterator[Named]:
    for record in records:
        try:
            text = record.text(config.text_field, setting="text_field")
        except NullError:
            if not config.skip_empty:
                raise
            left_out.add("records whose text is null", record.name)
            continue
        yield record.name, [clean(text)]


def _separated(
    name: str, chunks: Iterable[str], separator: str, left_out: LeftOut
) -> Iterator[Named]:
    separator = separator.replace("\r\n", "\n")  # as in the text
    rest, number, searched = "", 0, 0
    for chunk in chunks:
        rest += chunk
        start = 0
        while (end := rest.find(separator, max(start, searched))) >= 0:
            number += 1
            yield f"{name}:{number}", [rest[start:end].strip("\n")]
            start = end + len(separator)
            searched = start
        rest = rest[start:]
        searched = max(0, len(rest) - len(separator) + 1)
    if number == 0:
        left_out.add(_WITHOUT_SEPARATOR, name, action="Kept as they are")
    if rest.strip():
        yield f"{name}:{number + 1}", [rest.strip("\n")]


def _from_first_word(chunks: Iterable[str]) -> Iterator[str] | None:
    """Return the chunks if any contains a visible character; blank ones before it are kept."""
    held = ""
    rest = iter(chunks)
    for chunk in rest:
        held += chunk
        if not chunk.isspace() and chunk:
            return chain([held], rest)
    return None
