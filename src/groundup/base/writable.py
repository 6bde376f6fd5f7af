"""Check that a folder can be written to before long work starts."""

import os
import tempfile
from pathlib import Path

from groundup.base.free_name import or_free_name


def why_not_writable(path: Path) -> str | None:
    """Return why nothing can be written at a path, which does not have to exist. None: it can."""
    place = path.absolute()
    try:
        while not place.exists():
            place = place.parent
        if not place.is_dir():
            return "it is not a folder" if place == path.absolute() else f"{place} is not a folder"
        with tempfile.TemporaryFile(dir=place):
            return None
    except OSError as error:
        return error.strerror or str(error)


def writable_place(path: Path) -> Path:
    """Return a free path of the same name where one can write: here, at home, or in /tmp."""
    for folder in (Path(), Path.home(), Path(tempfile.gettempdir())):
        if why_not_writable(folder) is None and os.access(folder, os.X_OK):
            return or_free_name(folder / path.absolute().name)
    return path
