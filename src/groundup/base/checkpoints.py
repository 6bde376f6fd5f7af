"""The folder of checkpoints: how they are named, ordered, and which one is intact."""

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from groundup.base.errors import UserError

T = TypeVar("T")
_log = logging.getLogger(__name__)
_NAME = re.compile(r"step-(\d{6,})")


def step_name(step: int) -> str:
    """Name the folder of the checkpoint after this step.

    >>> step_name(500)
    'step-000500'
    """
    return f"step-{step:06d}"


def list_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints of a `checkpoints` folder, newest first, intact or not."""
    found = {path: _NAME.fullmatch(path.name) for path in folder.glob("step-*")}
    steps = {path: int(match[1]) for path, match in found.items() if match is not None}
    return sorted(steps, key=steps.__getitem__, reverse=True)


def named_checkpoints(folder: Path, *pointers: str) -> list[Path]:
    """List the existing checkpoints that text files of a `checkpoints` folder name.

    Args:
        folder: The `checkpoints` folder.
        pointers: Names of text files in it, such as "best".
    """
    found = []
    for file in (folder / pointer for pointer in pointers):
        name = file.read_text("utf-8", errors="replace").strip() if file.is_file() else ""
        # A plain name only: no path may lead out of the folder.
        if _NAME.fullmatch(name) and (folder / name).is_dir():
            found.append(folder / name)
    return found


def first_intact(checkpoints: Sequence[Path], read: Callable[[Path], T]) -> tuple[Path, T]:
    """Read the first checkpoint that is intact; a warning names each one that is not.

    Args:
        checkpoints: Candidates in the order in which to try them, at least one.
        read: Opens or verifies one of them.

    Returns:
        The checkpoint, and what `read` returned.

    Raises:
        UserError: None is intact; this is the error of the last one.
    """
    for checkpoint, after in zip(checkpoints, [*checkpoints[1:], None], strict=True):
        try:
            return checkpoint, read(checkpoint)
        except UserError as error:
            if after is None:
                raise
            _log.warning("%s The checkpoint %s is tried instead.", error.located, after.name)
    raise AssertionError("no candidates")
