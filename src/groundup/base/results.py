"""The result of a command, kept as `results/<command>.json` in the folder that it worked on.

`groundup story` reads there which stages are done, and the report takes its numbers from it.
"""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from groundup.base import files
from groundup.base.errors import UserError, quoted

_LIVE = object()
_log = logging.getLogger(__name__)


def result_file(folder: Path, command: str) -> Path:
    """Name the file that holds the result of a command on this folder."""
    return folder / "results" / f"{command}.json"


def record_if_possible(path: Path, value: Any) -> bool:
    """Write a value as JSON. Where that is not possible, log a warning: the result is known.

    Returns:
        Whether it was written.
    """
    return written_if_possible(lambda: files.write_json(path, _plain(value)))


def written_if_possible(write: Callable[[], object]) -> bool:
    """Write something that is not the main result; where that fails, log a warning."""
    try:
        write()
    except UserError as error:
        _log.warning("The result was not saved. %s", error.located)
        return False
    return True


def record_result(folder: Path, command: str, result: Any) -> None:
    """Write the result of a command; live objects in it (a model) are left out.

    Raises:
        UserError: The folder cannot be written to.
    """
    files.write_json(result_file(folder, command), _plain(result))


def read_results(folder: Path) -> dict[str, Any]:
    """Read the results of all commands that were run on this folder, by command.

    Raises:
        UserError: A file does not have the format of `record_result`.
    """
    results = {}
    for file in sorted((folder / "results").glob("*.json")):
        results[file.stem] = files.read_json(file)
        if not isinstance(results[file.stem], dict):
            raise UserError(
                "This file is not a result written by groundup. Remove it, and run the command "
                "again.",
                where=file,
                command=f"rm {quoted(file)}",
            )
    return results


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
