"""The files that pages and pictures are written to: no other file is replaced."""

from collections.abc import Callable
from pathlib import Path

from groundup.base.errors import UsageError, UserError
from groundup.base.free_name import free_file_name


def check_place(path: Path, suffix: str, setting: str, is_own: Callable[[Path], bool]) -> None:
    """Check that a page or a picture may be written here.

    Args:
        path: The file.
        suffix: What its name ends with.
        setting: The setting that names it.
        is_own: Whether groundup wrote the file that is there.

    Raises:
        UserError: The name ends otherwise, it is a folder, or another program wrote the file.
    """
    if path.is_dir():
        raise UsageError(
            f"This is a folder. A file name that ends with {suffix} is expected.",
            where=path,
            settings={setting: str(path / f"report{suffix}")},
        )
    if path.exists() and not is_own(path):
        raise UserError(
            "There is a file at this place that groundup did not write. Choose another name.",
            where=path,
            settings={setting: str(free_file_name(path.with_suffix(suffix)))},
        )
    if path.suffix.lower() != suffix:
        raise UsageError(
            f"The name {path.name!r} does not end with {suffix}, and a file of this kind is "
            "written.",
            settings={setting: f"{path}{suffix}"},
        )
