"""Change a folder completely or not at all.

Before the first change its files are kept in FOLDER/.undo, with their sizes, because some files
only grow. They are hard links, which take no space, or copies where a link leads to another disk.
An error restores them. A process that is killed leaves the record, and the next command that
changes the folder restores them first.
"""

import errno
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from groundup.base.errors import UserError
from groundup.base.files import in_place, read_json, write_json

_log = logging.getLogger(__name__)

KEPT = ".undo"
"""What a folder was before the change; the other names begin with it, too."""
_TEMPORARY, _LOCK = f"{KEPT}.tmp", f"{KEPT}.lock"
_RECORD = "record.json"
_active: set[Path] = set()
"""The folders that this process is changing."""


@contextmanager
def all_or_nothing(folder: Path, names: Iterable[str]) -> Iterator[None]:
    """Restore what is in a folder under these names if the block raises or the process dies.

    Inside a block for the same folder this does nothing: the outer block decides.

    Args:
        folder: An existing folder.
        names: Names of the folders in it that may change.

    Raises:
        UserError: The folder cannot be written to, or another process is changing it.
    """
    key = folder.resolve()
    if key in _active:
        yield
        return
    with locked(folder):
        _active.add(key)
        try:
            with in_place(folder, "nothing was changed"):
                if (folder / KEPT).exists():
                    _put_back(folder)
                _keep(folder, names)
            yield
            with in_place(folder, "it is as it was"):
                os.replace(folder / KEPT, folder / _TEMPORARY)  # from here on the change is final
        except BaseException:
            _restore(folder)
            raise
        finally:
            _active.discard(key)
            shutil.rmtree(folder / _TEMPORARY, ignore_errors=True)


def undo_interrupted(folder: Path) -> None:
    """Restore a folder that a killed process was changing.

    Raises:
        UserError: It cannot be restored, or another process is changing it.
    """
    left = [name for name in (KEPT, _TEMPORARY) if os.path.lexists(folder / name)]
    if not left or folder.resolve() in _active:
        return
    with locked(folder), in_place(folder, "an interrupted change is not undone yet"):
        if (folder / KEPT).exists():
            _put_back(folder)
            _log.warning("A change of %s was interrupted. It was undone.", folder)
        shutil.rmtree(folder / _TEMPORARY, ignore_errors=True)


def _restore(folder: Path) -> None:
    """Restore the folder; if that fails, the record stays for the next command."""
    if (folder / KEPT).exists():
        try:
            _put_back(folder)
        except OSError as error:
            _log.warning(
                "%s is not restored yet (%s). The next command that changes it restores it.",
                folder,
                error,
            )


def _keep(folder: Path, names: Iterable[str]) -> None:
    """Write the record under a temporary name and give it its own as the last step."""
    temporary = folder / _TEMPORARY
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    record: dict[str, dict[str, int | None] | None] = {}
    for name in names:
        place = folder / name
        if not place.is_dir():
            record[name] = None
            continue
        files: dict[str, int | None] = {}
        (temporary / name).mkdir()
        for path in sorted(place.rglob("*")):
            inside = path.relative_to(place)
            if path.is_dir():
                (temporary / name / inside).mkdir()
            else:
                _link(path, temporary / name / inside)
            files[inside.as_posix()] = None if path.is_dir() else path.stat().st_size
        record[name] = files
    write_json(temporary / _RECORD, record)
    os.replace(temporary, folder / KEPT)


def _put_back(folder: Path) -> None:
    """Restore every file. It can be repeated after an interruption at any point."""
    kept = folder / KEPT
    for name, files in read_json(kept / _RECORD).items():
        place = folder / name
        if files is None:
            if place.is_dir():
                shutil.rmtree(place)
            continue
        if not place.is_dir():
            place.mkdir()
        for path in sorted(place.rglob("*"), reverse=True):  # files before their folders
            if path.relative_to(place).as_posix() not in files:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        for inside, size in files.items():
            path, saved = place / inside, kept / name / inside
            if size is None:
                if not path.is_dir():
                    path.mkdir()
                continue
            if saved.exists() and not (path.exists() and path.samefile(saved)):
                _move(saved, path)
            if path.stat().st_size > size:
                os.truncate(path, size)
    shutil.rmtree(folder / _TEMPORARY, ignore_errors=True)
    os.replace(kept, folder / _TEMPORARY)
    shutil.rmtree(folder / _TEMPORARY, ignore_errors=True)


def _move(saved: Path, path: Path) -> None:
    try:
        os.replace(saved, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # A link leads to another disk. The target is replaced when the copy is complete.
        temporary = path.with_name(f".{path.name}.tmp")
        shutil.copy2(saved, temporary)
        os.replace(temporary, path)


def _link(path: Path, goal: Path) -> None:
    try:
        os.link(path, goal)
    except OSError:  # the file system has no hard links, or it is another one
        shutil.copy2(path, goal)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let no other process change a folder while the block runs, which may lock it again.

    Raises:
        UserError: The folder cannot be written to, or another process is changing it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder.resolve() / _LOCK, is_singleton=True)  # it counts who holds it
    with in_place(folder, "nothing was changed"):
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(
                "Another process is changing this folder. Wait until it ends.", where=folder
            ) from error
    try:
        yield
    finally:
        if lock.lock_counter == 1:
            with suppress(OSError):
                (folder / _LOCK).unlink()
        lock.release()
