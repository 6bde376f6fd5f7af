"""Find a name that is not taken."""

from itertools import count
from pathlib import Path


def free_name(folder: Path) -> Path:
    """The first of data-2, data-3, ... that does not exist."""
    name = folder.name or folder.resolve().name
    names = (folder.parent / f"{name}-{number}" for number in count(2))
    return next(place for place in names if not place.exists())


def free_file_name(file: Path) -> Path:
    """The first of tokens-2.bin, tokens-3.bin, ... that does not exist."""
    names = (file.with_name(f"{file.stem}-{number}{file.suffix}") for number in count(2))
    return next(place for place in names if not place.exists())


def or_free_name(path: Path) -> Path:
    """The path itself if it does not exist, otherwise the first free name."""
    return free_name(path) if path.exists() else path
