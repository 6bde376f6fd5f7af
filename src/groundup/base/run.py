"""The run folder: one folder a person can read, self-contained, never overwritten."""

import importlib.metadata
import json
import logging
import os
import platform
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from groundup.base import config as configs
from groundup.base import files
from groundup.base.errors import UserError
from groundup.base.machine import usable_cores

LOCK = ".lock"
"""A file of a run folder that whoever trains in it holds locked."""
MEASURED = (
    "loss_nats",
    "learning_rate",
    "grad_norm",
    "n_targets",
    "targets_per_s",
    "elapsed_s",
)
"""What every line of metrics.jsonl tells of a step of pretraining."""
_CHECKPOINT = re.compile(r"step-(\d{6,})")
_RECORDED_PACKAGES = ("groundup", "torch", "numpy", "safetensors", "regex", "scikit-learn")


class RunFolder:
    """A folder that holds everything one run was made from and everything it made."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path | str) -> "RunFolder":
        """Make a new run folder; a taken name gets -2, -3, ...

        Raises:
            UserError: The place cannot be written to.
        """
        wanted = Path(path)
        for number in range(1, 10_000):
            folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
            try:
                folder.mkdir(parents=True, exist_ok=False)
            except FileExistsError:
                continue
            except OSError as error:
                raise UserError(
                    f"no run folder can be made here ({error.strerror})",
                    need="a writable place",
                    where=wanted,
                    type_this="--out another/folder",
                ) from error
            return cls(folder)
        raise UserError("ten thousand runs of this name", need="another name", where=wanted)

    @classmethod
    def open(cls, path: Path | str) -> "RunFolder":
        """Open a run folder that is there.

        Raises:
            UserError: There is none.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise UserError(
                "there is no run folder of this name",
                need="a folder made by `groundup pretrain` or `groundup story`",
                where=folder,
                type_this="ls runs",
            )
        return cls(folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in this folder, until the end of the block.

        Raises:
            UserError: One does already.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(
                "another process is at work in this run folder",
                need="its end, or another folder",
                where=self.path,
                type_this="--out another/folder",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def log_metrics(self, **values: float | int | str | None) -> dict[str, Any]:
        """Append one line to metrics.jsonl and give it; None is left out.

        Names carry their units.

        Raises:
            UserError: The disk is full or not writable.
        """
        line = {name: value for name, value in values.items() if value is not None}
        with (
            files.in_place(self.path, "what was written before is whole") as folder,
            open(folder / "metrics.jsonl", "a", encoding="utf-8") as file,
        ):
            file.write(json.dumps(line) + "\n")
        return line

    def read_metrics(self, names: Iterable[str] = MEASURED) -> list[dict[str, Any]]:
        """Read metrics.jsonl; a line cut off by a crash, or spoilt, is passed over.

        Args:
            names: What a line must tell beside its step.

        Raises:
            UserError: It cannot be read.
        """
        rows = (_parse(line) for line in self._metric_lines())
        return [row for row in rows if row is not None and row.keys() >= set(names)]

    def invalid_metrics(self) -> list[int]:
        """Give the numbers of the lines of metrics.jsonl that `read_metrics` passes over.

        A last line that was cut off is not among them: a kill leaves it.

        Raises:
            UserError: It cannot be read.
        """
        lines = self._metric_lines()[:-1]
        return [
            number
            for number, line in enumerate(lines, start=1)
            if line.strip() and not (_parse(line) or {}).keys() >= set(MEASURED)
        ]

    def _metric_lines(self) -> list[str]:
        """The lines of metrics.jsonl; after the last newline comes what was cut off, or nothing."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return [""]
        try:
            return path.read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError as error:
            raise UserError(f"this cannot be read ({error.strerror})", where=path) from error

    def read_config(self) -> dict[str, Any]:
        """Read config.toml, as plain values.

        Raises:
            UserError: There is none, so this is no run of pretrain; or it is not TOML.
        """
        path = self.path / "config.toml"
        if not path.is_file():
            raise UserError(
                "this is no run of pretrain: it has no config.toml",
                need="a folder made by `groundup pretrain`",
                where=self.path,
                type_this="ls runs",
            )
        return configs.read_recipe(path)

    def write_config(self, config: Any) -> None:
        """Write the complete config.toml; feeding it back repeats the run."""
        files.write_text(self.path / "config.toml", configs.to_toml(config))

    def write_manifest(self, extra: dict[str, Any]) -> None:
        """Write manifest.json: versions, machine, command, time, and what the caller adds."""
        files.write_json(self.path / "manifest.json", {**describe_environment(), **extra})

    def read_manifest(self) -> dict[str, Any]:
        """Read manifest.json; empty where there is none, or no table in it.

        Raises:
            UserError: It is not readable JSON.
        """
        path = self.path / "manifest.json"
        told = files.read_json(path) if path.is_file() else None
        return told if isinstance(told, dict) else {}

    def write_readme(self, markdown: str) -> None:
        """Write the run's own README.md."""
        files.write_text(self.path / "README.md", markdown)

    @contextmanager
    def log_to_file(self) -> Iterator[None]:
        """Send the library's log to log.txt as well, until the end of the block."""
        handler = _LogFile(self.path / "log.txt", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        logging.getLogger("groundup").addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger("groundup").removeHandler(handler)
            with suppress(OSError):
                handler.close()


class _LogFile(logging.FileHandler):
    """Where the disk is full, the log stays short: whatever else cannot be written says so."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's own name)
        pass


def _parse(line: str) -> dict[str, Any] | None:
    """One line of metrics.jsonl: a step and numbers; None: it is spoilt."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        return None
    numbers = (type(value) in (int, float) and abs(value) < configs.HUGE for value in row.values())
    return row if all(numbers) else None


def step_name(step: int) -> str:
    """The folder of the checkpoint after so many steps.

    >>> step_name(500)
    'step-000500'
    """
    return f"step-{step:06d}"


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a `checkpoints` folder, the newest first, whole or not."""
    found = {path: _CHECKPOINT.fullmatch(path.name) for path in folder.glob("step-*")}
    steps = {path: int(match[1]) for path, match in found.items() if match is not None}
    return sorted(steps, key=steps.__getitem__, reverse=True)


def describe_environment() -> dict[str, Any]:
    """Say what this run stands on: versions, machine, command, time."""
    versions = {}
    for package in _RECORDED_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "absent"
    return {
        "written_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "working_folder": os.getcwd(),
        "python": platform.python_version(),
        "versions": versions,
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "n_cores": usable_cores(),
        },
    }
