"""The run folder: one folder a person can read, self-contained, never overwritten."""

import importlib.metadata
import json
import logging
import os
import platform
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from groundup.base import config as configs
from groundup.base import files
from groundup.base.device import usable_cores
from groundup.base.errors import UserError

LOCK = ".lock"
"""A file of a run folder that whoever trains in it holds locked."""
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

    def read_metrics(self) -> list[dict[str, Any]]:
        """Read metrics.jsonl; a line cut off by a crash, or spoilt, is passed over.

        Raises:
            UserError: It cannot be read.
        """
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise UserError(f"this cannot be read ({error.strerror})", where=path) from error
        rows = []
        for line in lines:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(row, dict) and "step" in row:
                rows.append(row)
        return rows

    def write_config(self, config: Any) -> None:
        """Write the complete config.toml; feeding it back repeats the run."""
        files.write_text(self.path / "config.toml", configs.to_toml(config))

    def write_manifest(self, extra: dict[str, Any]) -> None:
        """Write manifest.json: versions, machine, command, time, and what the caller adds."""
        files.write_json(self.path / "manifest.json", {**describe_environment(), **extra})

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
