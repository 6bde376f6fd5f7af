"""Read records (rows of named values) from any source: JSON lines or lists, CSV, TSV, Parquet.

All commands that read records use this module, so that a file has the same rows in every one.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from groundup.base.errors import UserError
from groundup.base.extras import needed
from groundup.text.config import FileConfig
from groundup.text.jsonl import parse_json_lines, parse_json_list
from groundup.text.left_out import LeftOut
from groundup.text.opening import OpenedFile, open_source
from groundup.text.parquet import parquet_columns, read_parquet
from groundup.text.sources import HUGGING_FACE, Source, find_sources, reading_errors
from groundup.text.tables import read_table, split_lines


@dataclass(frozen=True)
class Record:
    """Named values, and where they come from."""

    name: str
    """The file name and the number of the line, row or record: "a.csv:3"."""
    where: str
    """The same with the path of the file, for messages."""
    values: Any
    """An object by field name; JSON may contain something else, which `get` refuses."""
    is_table: bool = False
    """Whether it is a line of CSV or TSV, where the first line may be no header."""

    def get(self, field: str, default: Any = ...) -> Any:
        """Return a value; "a.b" is the value of "b" in the object "a".

        Args:
            field: The name of the field.
            default: The value if there is no such field. By default, that is an error.

        Raises:
            UserError: The record is not an object, or has no such field.
        """
        if not isinstance(self.values, dict):
            raise UserError(
                f"This record is {described(self.values)}. An object with a field {field!r} is "
                "expected.",
                where=self.where,
            )
        value: Any = self.values
        for name in [field] if field in value else field.split("."):
            if value is None:  # of an object that is null, every field is null
                return None
            if not isinstance(value, dict) or name not in value:
                if default is not ...:
                    return default
                raise MissingFieldError(self, field)
            value = value[name]
        return value

    def text(self, field: str, *, setting: str = "") -> str:
        """Return a string.

        Args:
            field: The name of the field.
            setting: The name of the setting that chooses the field, for messages.

        Raises:
            NullError: The value is null.
            UserError: There is no such field, or its value is not a string.
        """
        try:
            value = self.get(field)
        except MissingFieldError as error:
            texts = {n: len(v) for n, v in self.values.items() if isinstance(v, str)}
            longest = max(texts, key=texts.__getitem__, default=None)
            settings = {setting: longest} if setting and longest is not None else {}
            raise UserError(error.message, where=self.where, settings=settings) from error
        if value is None:
            raise NullError(field, where=self.where)
        if not isinstance(value, str):
            raise UserError(
                f"The field {field!r} is {described(value)}. A string is expected.",
                where=self.where,
            )
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(
                f"The field {field!r} contains half of a surrogate pair, which is not a character.",
                where=self.where,
            ) from error
        return value


class MissingFieldError(UserError):
    """A record has no field of this name."""

    def __init__(self, record: Record, field: str) -> None:
        found = ", ".join(map(str, record.values)) or "none"
        super().__init__(
            f"This record has no field {field!r} (it has: {found}). The name of the field is "
            "expected.",
            where=record.where,
        )


class NullError(UserError):
    """The value of a field is null."""

    def __init__(self, field: str, *, where: str) -> None:
        super().__init__(
            f"The field {field!r} is null. A string is expected; the setting skip_empty leaves out "
            "such records.",
            where=where,
            settings={"skip_empty": True},
        )


class EmptyError(UserError):
    """The value of a field is an empty string."""

    def __init__(self, field: str, *, where: str) -> None:
        super().__init__(
            f"The field {field!r} is empty. The setting skip_empty leaves out such records.",
            where=where,
            settings={"skip_empty": True},
        )


def described(value: Any) -> str:
    """Name the type of a value in words.

    >>> described(None), described([1, 2]), described(0.5)
    ('null', 'a list of 2 values', 'the number 0.5')
    """
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return "a string"
        case dict():
            return "an object"
        case list():
            return f"a list of {len(value)} value{'' if len(value) == 1 else 's'}"
        case bytes():
            return "binary data"
    return f"a value of type {type(value).__name__}"


def read_records(
    word: str,
    config: FileConfig,
    *,
    fields: Sequence[str],
    default_columns: Sequence[str] = (),
    left_out: LeftOut | None = None,
) -> Iterator[Record]:
    """Read the records of a file, a folder, a glob, a URL, a dataset or standard input.

    Args:
        word: A source word, as for `find_sources`.
        config: The format and encoding of the files.
        fields: The fields that will be asked for; of a Parquet file only these are read.
        default_columns: Column names of a TSV file without a header.
        left_out: Counts what is left out.

    Raises:
        UserError: A source is missing or malformed, or contains no records.
    """
    first_error: UserError | None = None
    n_read = 0
    for source in find_sources(word, left_out=left_out):
        records = _source_records(source, config, fields, default_columns, left_out)
        if not source.is_found:
            yield from records
            n_read += 1
            continue
        try:
            complete = list(records)  # a file of a folder is read completely or left out
        except UserError as error:
            first_error = first_error or error
            if left_out is not None:
                left_out.add("files without records that can be read", error.located)
            continue
        n_read += 1
        yield from complete
    if n_read == 0 and first_error is not None:
        raise first_error


def _source_records(
    source: Source,
    config: FileConfig,
    fields: Sequence[str],
    default_columns: Sequence[str],
    left_out: LeftOut | None,
) -> Iterator[Record]:
    if source.is_hugging_face:
        yield from dataset_records(source)
        return
    with open_source(source, config) as file:
        if file.format == "text":
            header = next((line for line in split_lines(file.chunks()) if line.strip()), "")
            likely = "tsv" if "\t" in header else "csv" if re.search("[,;]", header) else None
            raise UserError(
                "This file is a text without records. JSON lines, a JSON list, CSV, TSV or "
                "Parquet is expected.",
                where=str(source),
                settings={"format": likely} if likely else None,
            )
        yield from file_records(
            file, fields=fields, default_columns=default_columns, left_out=left_out
        )


def file_records(
    file: OpenedFile,
    *,
    fields: Sequence[str],
    default_columns: Sequence[str] = (),
    left_out: LeftOut | None = None,
) -> Iterator[Record]:
    """Read the records of an opened file; arguments and errors are those of `read_records`."""
    source = file.source
    name, where = source.name, str(source)
    match file.format:
        case "jsonl":
            lines = split_lines(file.chunks())
            for number, values in parse_json_lines(lines, where=where):
                yield Record(f"{name}:{number}", f"{where}:{number}", values)
        case "json":
            for number, values in parse_json_list(file.chunks(), where=where):
                yield Record(f"{name}:{number}", f"{where}, record {number}", values)
        case "csv" | "tsv" | "tsv-quoted" | "tsv-pandas":
            table = read_table(
                file.chunks(universal_newlines=not file.has_line_feeds),
                file.format,
                where=where,
                default_columns=default_columns,
                left_out=left_out,
            )
            for number, row in table.rows:
                yield Record(
                    f"{name}:{number}",
                    f"{where}:{number}",
                    dict(zip(table.columns, row, strict=True)),
                    is_table=True,
                )
        case "parquet":
            yield from _parquet_records(file, fields)


def dataset_records(source: Source) -> Iterator[Record]:
    """Stream the rows of `hf:NAME`, or of `hf:NAME:SPLIT` for another split than train.

    Raises:
        UserError: The dataset cannot be read.
    """
    datasets = needed("datasets", "datasets", source.place)
    name, split = source.place.removeprefix(HUGGING_FACE), "train"
    if ":" in name:
        name, split = name.rsplit(":", 1)
    try:
        for number, row in enumerate(datasets.load_dataset(name, split=split, streaming=True), 1):
            yield Record(f"{name}:{number}", f"{name}:{number}", row)
    except reading_errors() as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"The dataset {name} cannot be read ({error}).", where=source.place
        ) from error


def _parquet_records(file: OpenedFile, fields: Sequence[str]) -> Iterator[Record]:
    name, where = file.source.name, str(file.source)
    with file.seekable() as opened:
        columns = parquet_columns(opened, where)
        wanted = [f if f in columns else f.split(".")[0] for f in fields]
        chosen = [column for column in dict.fromkeys(wanted) if column in columns]
        opened.seek(0)
        if not set(wanted) <= set(columns):  # the record will say which fields there are
            chosen = columns
        for number, values in read_parquet(opened, chosen, where=where):
            yield Record(f"{name}:{number}", f"{where}, row {number}", values)
