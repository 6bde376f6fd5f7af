"""What a verb found, kept as `results/<verb>.json` in the folder it worked on.

The story reads there which stages are done, and the report draws its pictures from it.
"""

import dataclasses
from pathlib import Path
from typing import Any

from groundup.base import files

_LIVE = object()


def result_file(folder: Path, verb: str) -> Path:
    """Name the file that holds what a verb found in this folder."""
    return folder / "results" / f"{verb}.json"


def record_result(folder: Path, verb: str, result: Any) -> None:
    """Keep what a verb found; live objects in it (a model) are left out.

    Raises:
        UserError: The folder cannot be written to.
    """
    files.write_json(result_file(folder, verb), _plain(result))


def read_results(folder: Path) -> dict[str, Any]:
    """Read what every verb found in this folder, by verb."""
    found = sorted((folder / "results").glob("*.json"))
    return {file.stem: files.read_json(file) for file in found}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        plain = {str(key): _plain(item) for key, item in value.items()}
        return {key: item for key, item in plain.items() if item is not _LIVE}
    if isinstance(value, (list, tuple)):
        return [item for item in map(_plain, value) if item is not _LIVE]
    if isinstance(value, Path):
        return str(value)
    return value if value is None or isinstance(value, (str, int, float, bool)) else _LIVE
