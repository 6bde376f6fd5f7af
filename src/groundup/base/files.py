"""Files that are either complete or absent: written beside the target, synced, then renamed."""

import hashlib
import json
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from groundup.base.errors import UserError
from groundup.base.surrogates import has_surrogates, without_surrogates

_PRIVATE = 0o600
_cleanups: list[Callable[[], None]] = []
"""What the blocks of the main thread that have not ended will clean up."""


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed to `path`.

    On any error the temporary file is removed and `path` stays as it was.

    Raises:
        UserError: The folder cannot be written to, or the disk is full.
    """
    goal = Path(path)
    temporary = _beside(goal)

    def clean_up() -> None:
        with suppress(OSError):
            temporary.unlink()

    with _cleaned_up(clean_up), _explained(goal):
        goal.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _give_default_modes([temporary])
        _sync(temporary)
        os.replace(temporary, goal)
        _sync(goal.parent)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it is synced and renamed to `path`.

    An existing folder at `path`, or the one that a link there leads to, is replaced as the last
    step.

    Raises:
        UserError: The location cannot be written to, or the disk is full.
    """
    goal = Path(path)
    if goal.is_symlink():
        goal = goal.resolve()  # the link stays: it may lead to a larger disk
    temporary, old = _beside(goal), _beside(goal)

    def clean_up() -> None:  # Ctrl-C may come between any two lines
        if old.exists() and not goal.exists():
            os.replace(old, goal)
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)

    with _cleaned_up(clean_up), _explained(goal):
        temporary.mkdir(parents=True)
        yield temporary
        written = sorted(temporary.rglob("*"))
        _give_default_modes([path for path in written if not path.is_dir()])
        for file in written:
            _sync(file)
        _sync(temporary)
        if goal.exists():
            os.replace(goal, old)
        os.replace(temporary, goal)
        _sync(goal.parent)


def clean_up_interrupted() -> None:
    """Clean up again where Ctrl-C came in the middle of it. Call it when none can come any more."""
    while _cleanups:
        with suppress(OSError, ValueError):
            _cleanups.pop()()


@contextmanager
def _cleaned_up(clean_up: Callable[[], None]) -> Iterator[None]:
    """Clean up after the block, or when `clean_up_interrupted` is called."""
    if threading.current_thread() is threading.main_thread():
        _cleanups.append(clean_up)
    try:
        yield
    finally:
        with suppress(ValueError):  # no file can have this name
            clean_up()
        with suppress(ValueError):
            _cleanups.remove(clean_up)


@contextmanager
def in_place(folder: Path, kept: str) -> Iterator[Path]:
    """Write into an existing folder; `kept` states what an error leaves unchanged.

    Raises:
        UserError: The location cannot be written to, or the disk is full.
    """
    with _explained(folder, kept):
        yield folder


def remove_left_over(path: Path | str) -> None:
    """Remove the temporary files that killed processes left beside `path`."""
    goal = Path(path)
    for left in goal.parent.glob(f".{goal.name}.*.tmp"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write a file completely, or leave the old one."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path | str, text: str) -> None:
    """Write a UTF-8 file completely, or leave the old one; surrogates in it are replaced."""
    write_bytes(path, without_surrogates(text).encode("utf-8"))


def write_json(path: Path | str, value: Any) -> None:
    """Write readable JSON completely, or leave the old file."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    if has_surrogates(text):  # escaped, they are read back as they were: names of files
        text = json.dumps(value, indent=2, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises:
        UserError: The file is missing or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError("This file is missing.", where=path) from error
    except OSError as error:
        raise UserError(f"This file cannot be read ({error.strerror}).", where=path) from error
    except (ValueError, RecursionError) as error:  # also of numbers with thousands of digits
        raise UserError(f"This file is not valid JSON ({error}).", where=path) from error


def sha256_bytes(data: bytes) -> str:
    """Compute the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path | str, n_bytes: int | None = None) -> str:
    """Compute the SHA-256 of a file, or of its first bytes, in constant memory.

    Raises:
        UserError: The file may not be read.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115
    except PermissionError as error:
        raise UserError(f"This file cannot be read ({error.strerror}).", where=path) from error
    with file:
        if n_bytes is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()
        while n_bytes > 0 and (block := file.read(min(n_bytes, 2**20))):
            digest.update(block)
            n_bytes -= len(block)
        return digest.hexdigest()


def _beside(goal: Path) -> Path:
    return goal.with_name(f".{goal.name}.{uuid.uuid4().hex[:8]}.tmp")


def _give_default_modes(files: list[Path]) -> None:
    """Give files the mode that the umask allows: safetensors makes them readable by the owner only.

    The umask itself cannot be read without changing it, which another thread would notice.
    """
    private = [path for path in files if path.stat().st_mode & 0o777 == _PRIVATE]
    if not private or os.name == "nt":
        return
    probe = _beside(private[0])
    try:
        probe.touch(mode=0o666)
        mode = probe.stat().st_mode & 0o777
    finally:
        probe.unlink(missing_ok=True)
    for path in private:
        path.chmod(mode)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open folders, and syncs only what is open for writing
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(goal: Path, kept: str = "no partial file was left") -> Iterator[None]:
    """Turn an error of the file system into a UserError."""
    try:
        yield
    except BrokenPipeError:  # the reader of what is printed has gone
        raise
    except OSError as error:
        raise UserError(
            f"This cannot be written ({error.strerror or error}); {kept}. "
            "A writable location with free space is expected.",
            where=goal,
        ) from error
