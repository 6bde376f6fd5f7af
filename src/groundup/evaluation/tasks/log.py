"""The log of an evaluation: one JSON line for each item, so that nothing is computed twice.

    RUN/evaluation/tasks/quiz-1a2b3c4d/settings.json   what decides the results
    RUN/evaluation/tasks/quiz-1a2b3c4d/items.jsonl     prompt, likelihoods or output, correct
    RUN/evaluation/tasks/quiz-1a2b3c4d/result.json     written when all items are done

The name has a hash of the settings, those of the items and of the weights among them.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from groundup.base.errors import UsageError, UserError
from groundup.base.files import read_json, sha256_bytes, write_json

SETTINGS, ITEMS, RESULT = "settings.json", "items.jsonl", "result.json"
_log = logging.getLogger(__name__)
Row = dict[str, Any]


def fingerprint(value: Any) -> str:
    """Compute the SHA-256 of a value as JSON."""
    return sha256_bytes(json.dumps(value, sort_keys=True).encode("utf-8", "surrogatepass"))


class TaskLog:
    """The rows of an evaluation, in memory and on disk.

    Args:
        folder: Where the logs of this run are.
        name: The name of the task.
        settings: All that decides the results.
    """

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        self.settings = dict(settings)
        self.path: Path = folder / f"{name}-{fingerprint(self.settings)[:8]}"
        self.is_saved = True
        """Whether the rows are on disk."""
        self.rows: dict[int, Row] = {}
        file = self.path / ITEMS
        if file.is_file():
            self.rows, n_bytes = _read_rows(file)
            try:
                with open(file, "r+b") as opened:
                    opened.truncate(n_bytes)  # half a line of an evaluation that was killed
            except OSError as error:
                self._cannot_save(error.strerror)
        else:
            try:
                write_json(self.path / SETTINGS, self.settings)
            except UserError as error:
                self._cannot_save(error.located)

    def add(self, index: int, row: Row) -> None:
        """Append the row of an item."""
        self.rows[index] = row
        if not self.is_saved:
            return
        line = json.dumps({"index": index, **row}, ensure_ascii=True) + "\n"
        try:
            with open(self.path / ITEMS, "a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            self._cannot_save(error.strerror)

    def _cannot_save(self, why: str | None) -> None:
        self.is_saved = False
        _log.warning("The log of the items was not saved (%s).", why)


def read_log(path: Path) -> tuple[dict[str, Any], dict[int, Row]]:
    """Read the settings and the rows of an evaluation that is complete.

    Raises:
        UsageError: The folder is no log, or the evaluation was not finished.
    """
    if not (path / RESULT).is_file():
        raise UsageError(
            "This evaluation was not finished. Run it again to compute the other items.",
            where=path,
        )
    return read_json(path / SETTINGS), _read_rows(path / ITEMS)[0]


def is_log(path: Path) -> bool:
    """Whether a folder is the log of an evaluation."""
    return (path / SETTINGS).is_file() and (path / ITEMS).is_file()


def _read_rows(file: Path) -> tuple[dict[int, Row], int]:
    """Read the complete lines of a log, and the number of their bytes."""
    rows: dict[int, Row] = {}
    n_bytes = 0
    for line in file.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        try:
            row = orjson.loads(line)
            rows[row.pop("index")] = row
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                "This line of the log is damaged. Remove the folder, and evaluate again.",
                where=file,
            ) from error
        n_bytes += len(line)
    return rows, n_bytes
