"""Read Parquet files row by row."""

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from groundup.base.errors import UserError
from groundup.base.extras import needed

_ROWS_PER_BATCH = 256


def parquet_columns(file: BinaryIO, where: str) -> list[str]:
    """List the columns of a Parquet file.

    Raises:
        UserError: It is not a Parquet file, or pyarrow is not installed.
    """
    names = list(_open(file, where).schema_arrow.names)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(
            f"The file has two columns named {twice!r}. Different names are expected.", where=where
        )
    return names


def read_parquet(
    file: BinaryIO, columns: Sequence[str], *, where: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read rows as (row number, values by column); numbers start at 1.

    Args:
        file: An opened file with random access.
        columns: The columns to read, which must exist.
        where: The file, for messages.

    Raises:
        UserError: It is not a Parquet file, a column cannot be read, or a string is not UTF-8.
    """
    arrow = needed("pyarrow", "sources", where)
    table = _open(file, where)
    number = 0
    try:
        for batch in table.iter_batches(batch_size=_ROWS_PER_BATCH, columns=list(columns)):
            values = [_values(batch.column(name), number, where) for name in columns]
            for row in zip(*values, strict=True):
                number += 1
                yield number, dict(zip(columns, row, strict=True))
    except (arrow.ArrowException, OSError, OverflowError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"This Parquet file cannot be read after row {number} ({_first_line(error)}).",
            where=where,
        ) from error


def _open(file: BinaryIO, where: str) -> Any:
    arrow = needed("pyarrow", "sources", where)
    parquet = needed("pyarrow.parquet", "sources", where)
    try:
        return parquet.ParquetFile(file)
    except (arrow.ArrowException, OSError, ValueError) as error:  # a name that is not UTF-8
        raise UserError(
            f"This Parquet file cannot be read ({_first_line(error)}).", where=where
        ) from error


def _values(column: Any, n_before: int, where: str) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
        return values
    except UnicodeDecodeError:
        for index in range(len(column)):
            try:
                column[index].as_py()
            except UnicodeDecodeError as error:
                raise UserError(
                    f"The string in this row is not valid UTF-8 (byte {error.start} is "
                    f"0x{error.object[error.start]:02x}).",
                    where=f"{where}, row {n_before + index + 1}",
                ) from error
        raise


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
