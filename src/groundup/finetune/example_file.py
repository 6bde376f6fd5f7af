"""The checks on a file of training examples that do not depend on its format."""

from collections.abc import Sequence
from pathlib import Path

from groundup.base.errors import UserError


def check_suffix(path: Path, suffixes: Sequence[str]) -> str:
    """Return the lower-case suffix of a file that exists.

    Raises:
        UserError: The file does not exist, or has none of these suffixes.
    """
    expected = f"A file that ends in {', '.join(suffixes[:-1])} or {suffixes[-1]} is expected."
    if path.is_dir():
        raise UserError(f"This is a folder. {expected}", where=path)
    if not path.is_file():
        raise UserError(f"There is no such file. {expected}", where=path)
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        found = f"This file ends in {suffix}." if suffix else "This file name has no ending."
        raise UserError(f"{found} {expected}", where=path)
    return suffix


def read_utf8(path: Path) -> str:
    """Read a text file.

    Raises:
        UserError: The file is empty, or is not UTF-8.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"This file is not valid utf-8 at byte {error.start}. Save it as UTF-8.", where=path
        ) from error
    if not content.strip():
        raise UserError("This file is empty.", where=path)
    return content
