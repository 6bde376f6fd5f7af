"""Make every point at which a program changes the disk fail in turn."""

import builtins
import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock


def digest(folder: Path) -> dict[str, str]:
    """The hash of every file of a folder, and every folder in it."""
    return {
        str(path.relative_to(folder)): (
            "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        )
        for path in sorted(folder.rglob("*"))
    }


class Faults:
    """Counts writes, syncs, renames and links below a folder, and makes one of them fail.

    With `stays` all later writes fail, too, as on a disk that stays full.
    """

    def __init__(
        self,
        folder: Path,
        error: BaseException | None = None,
        at: int = 0,
        *,
        stays: bool = False,
    ) -> None:
        self.folder, self.error, self.at, self.n = str(folder.resolve()), error, at, 0
        self.stays = stays

    def hit(self, place: Any, name: str = "") -> None:
        """Count a point; raise if it is the one."""
        if isinstance(place, (str, Path)) and not str(Path(place).absolute()).startswith(
            self.folder
        ):
            return
        self.n += 1
        again = self.stays and self.n > self.at and name in ("write", "link", "mkdir")
        if self.error is not None and (self.n == self.at or again):
            raise self.error


class _File:
    def __init__(self, file: Any, faults: Faults) -> None:
        self._file, self._faults = file, faults

    def write(self, data: Any) -> Any:
        self._faults.hit(self._file.name, "write")
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)


@contextmanager
def injected(faults: Faults) -> Iterator[None]:
    """Count the points of the block, or make one of them fail."""
    real_open = io.open

    def open_(file: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        opened = real_open(file, mode, *rest, **more)
        return opened if set(mode) <= set("rbt") else _File(opened, faults)

    def hitting(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(place: Any, *rest: Any, **more: Any) -> Any:
            if not more.get("ignore_errors"):
                faults.hit(place, real.__name__)
            return real(place, *rest, **more)

        return call

    with (
        mock.patch.object(builtins, "open", open_),
        mock.patch.object(io, "open", open_),
        mock.patch.object(os, "replace", hitting(os.replace)),
        mock.patch.object(os, "link", hitting(os.link)),
        mock.patch.object(os, "fsync", hitting(os.fsync)),
        mock.patch.object(Path, "mkdir", hitting(Path.mkdir)),
        mock.patch.object(shutil, "rmtree", hitting(shutil.rmtree)),
    ):
        yield
