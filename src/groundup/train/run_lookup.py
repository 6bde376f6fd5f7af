"""Find the run folder of a command: the unfinished run of the same settings, or a new one."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from groundup.base.config import from_mapping, read_recipe
from groundup.base.errors import UserError
from groundup.base.fields import Config, replace_settings
from groundup.base.run import LOCK, RunFolder, check_name

C = TypeVar("C", bound=Config)

_log = logging.getLogger(__name__)
_NOT_COMPARED = ("out", "plan_only")


def open_run(
    out: Path, config: Config, *, may_resume: Callable[[RunFolder], bool] = lambda run: True
) -> tuple[RunFolder, bool]:
    """Find or make the run folder for a config.

    The folders `out`, `out-2`, `out-3` ... are tried in this order. The first one with an
    unfinished run of exactly these settings is resumed. A folder that `story` has prepared and
    that has no run yet is used. A run that is finished or has other settings is never changed.

    Args:
        out: The requested folder.
        config: The complete settings; `out` itself is not compared.
        may_resume: Whether an unfinished run of these settings may be resumed.

    Returns:
        The folder, and whether it holds an unfinished run to resume.

    Raises:
        UserError: The folder is not writable.
    """
    for folder in taken_names(out):
        if _is_prepared(folder):
            return RunFolder(folder), False
        run = RunFolder(folder)
        if not run.is_finished and _same_settings(folder, config) and may_resume(run):
            return run, True
    if out.exists() and RunFolder(out).config_path.is_file():
        state = "is finished" if RunFolder(out).is_finished else "has other settings"
        _log.info("%s %s and is not changed; a new folder is made.", out, state)
    return RunFolder.create(out), False


def taken_names(out: Path) -> Iterator[Path]:
    """Yield `out`, `out-2`, `out-3` ... as long as they exist."""
    check_name(out)
    for number in range(1, 10_000):
        folder = out if number == 1 else out.with_name(f"{out.name}-{number}")
        if not folder.exists():
            break
        yield folder


def _is_prepared(folder: Path) -> bool:
    """Whether no run has started in this folder: it is empty, or `story` made it.

    A run that ended before its first step leaves a log, a lock and temporary files.
    """
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir() if path.suffix != ".tmp"} - {"log.txt", LOCK}
    return not names or ("story" in names and not names & {"config.toml", "checkpoints"})


def stored_settings(folder: Path, config: C) -> C | None:
    """The settings of the run in this folder; None: there are none that can be read."""
    try:
        return from_mapping(type(config), read_recipe(RunFolder(folder).config_path))
    except UserError:
        return None


def _same_settings(folder: Path, config: Config) -> bool:
    stored = stored_settings(folder, config)
    if stored is None:
        return False
    left_out: dict[str, Any] = {
        name: getattr(config, name) for name in _NOT_COMPARED if hasattr(config, name)
    }
    return replace_settings(stored, **left_out) == config
