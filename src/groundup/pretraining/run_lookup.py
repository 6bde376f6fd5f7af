"""Which run folder a command means: the unfinished run of the same settings, or a new one."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from groundup.base.config import from_mapping, read_recipe, to_mapping
from groundup.base.errors import UserError
from groundup.base.run import LOCK, RunFolder
from groundup.planning.budget import agree
from groundup.train.config import PretrainConfig

_log = logging.getLogger(__name__)


def open_run(out: Path, config: Any) -> tuple[RunFolder, bool]:
    """Find or make the run folder for a config.

    In this order: `out`, `out-2`, `out-3` ... The first that holds an unfinished run of exactly
    these settings is taken up. A folder without a run in it that another verb has prepared (a
    story's) is used. Nothing finished, or of other settings, is ever written to.

    Args:
        out: The wanted folder.
        config: The complete settings; `out` itself does not count.

    Returns:
        The folder, and whether an unfinished run in it is to go on.

    Raises:
        UserError: The place cannot be written to.
    """
    for folder in _taken(out):
        if _is_prepared(folder):
            return RunFolder(folder), False
        if not RunFolder(folder).is_finished and _same_settings(folder, config):
            return RunFolder(folder), True
    if out.exists() and RunFolder(out).config_path.is_file():
        state = "is finished" if RunFolder(out).is_finished else "has other settings"
        _log.info("%s %s and stays as it is; a new folder is made", out, state)
    return RunFolder.create(out), False


def chosen_before(wished: PretrainConfig) -> PretrainConfig | None:
    """What a budget has already chosen for these wishes, in a run that is unfinished."""
    for folder in _taken(wished.out):
        if RunFolder(folder).is_finished or not RunFolder(folder).config_path.is_file():
            continue
        try:
            stored = from_mapping(type(wished), read_recipe(RunFolder(folder).config_path))
        except UserError:
            continue
        if agree(stored, wished):
            return replace(stored, out=wished.out)
    return None


def _taken(out: Path) -> Iterator[Path]:
    """`out`, `out-2`, `out-3` ... as far as they are there."""
    for number in range(1, 10_000):
        folder = out if number == 1 else out.with_name(f"{out.name}-{number}")
        if not folder.exists():
            break
        yield folder


def _is_prepared(folder: Path) -> bool:
    """A folder in which no run has begun: empty, or a story's.

    A log, a lock and half-written files are what a run leaves that ended before it began.
    """
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir() if path.suffix != ".tmp"} - {"log.txt", LOCK}
    return not names or ("story" in names and not names & {"config.toml", "checkpoints"})


def _same_settings(folder: Path, config: Any) -> bool:
    try:
        stored = read_recipe(RunFolder(folder).config_path)
    except UserError:
        return False
    wanted = to_mapping(config)
    stored.pop("out", None)
    wanted.pop("out", None)
    return stored == wanted
