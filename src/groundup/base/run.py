"""The run folder: one folder a person can read, self-contained, never overwritten."""

import importlib.metadata
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from groundup.base import config as configs
from groundup.base import files
from groundup.base.device import usable_cores
from groundup.base.errors import UserError

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
        """Read metrics.jsonl; a line cut off by a crash is passed over."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        rows = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
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
        handler = logging.FileHandler(self.path / "log.txt", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        logging.getLogger("groundup").addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger("groundup").removeHandler(handler)
            handler.close()


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
