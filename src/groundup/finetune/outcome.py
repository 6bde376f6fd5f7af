"""Where a fine-tuned model is saved, and what may follow: nothing after training may lose it.

The place is checked before training. After training the model is saved first; a step that fails
afterwards (grading, a README) becomes a warning.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from groundup.base.errors import UserError
from groundup.base.run import RunFolder
from groundup.finetune.config import FineTuneConfig
from groundup.finetune.training import open_fine_tuning

_log = logging.getLogger(__name__)


def check_place(folder: Path, n_bytes: int) -> None:
    """Check before training that a new folder can be written, and that the model fits on the disk.

    Args:
        folder: The folder that will be created.
        n_bytes: Size of the model.

    Raises:
        UserError: The location cannot be written to, or the disk is too full.
    """
    parent = next(p for p in folder.absolute().parents if p.is_dir())
    settings = {"out": str(_writable_place() / folder.name)}
    try:
        with suppress(FileNotFoundError):
            folder.lstat()  # fails if the name is too long
        with tempfile.TemporaryFile(dir=parent):  # has no name, so a killed process leaves nothing
            n_free = shutil.disk_usage(parent).free
    except OSError as error:
        raise UserError(
            f"This folder cannot be created ({error.strerror or error}). A writable location is "
            "expected.",
            where=folder,
            settings=settings,
        ) from error
    if n_free < 1.1 * n_bytes:
        raise UserError(
            f"The model takes {n_bytes / 1e6:,.1f} MB, and the disk has {n_free / 1e6:,.1f} MB "
            "free. A location with more free space is expected.",
            where=folder,
            settings=settings,
        )


def _writable_place() -> Path:
    places = (Path(), Path.home(), Path(tempfile.gettempdir()))
    return next((place for place in places if os.access(place, os.W_OK)), places[-1])


def save_to_new_folder(
    wanted: Path, save: Callable[[Path], None], *, config: FineTuneConfig | None = None
) -> Path:
    """Create the folder and save into it; if that fails, save to a temporary folder instead.

    Args:
        wanted: The folder. If the name is taken, -2, -3, ... is appended.
        save: Writes the model into an existing folder.
        config: The settings. The folder of an unfinished run with the same settings, whose command
            was killed while it wrote, is used again. None: a new folder in any case.

    Returns:
        The folder that holds the model. If it is not the one that was wanted, a warning names it.

    Raises:
        UserError: The model cannot be written to either place.
    """
    try:
        run = RunFolder.create(wanted) if config is None else open_fine_tuning(wanted, config)[0]
        return _save(run.path, save)
    except (UserError, OSError) as error:
        folder = Path(tempfile.mkdtemp(prefix=f"{wanted.name}-"))
        _save(folder, save)
        _log.warning("%s. The model is saved in %s instead.", reason(error), folder)
        return folder


def _save(folder: Path, save: Callable[[Path], None]) -> Path:
    try:
        save(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


class AfterTraining:
    """Runs the steps that follow when the model is saved; an error in one becomes a warning.

    >>> after = AfterTraining(Path("runs/a/classifier"))
    >>> with after.step("the README"):
    ...     raise OSError(28, "No space left on device")
    >>> after.warnings
    ['the README failed (No space left on device). The model is saved in runs/a/classifier.']
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.warnings: list[str] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Run one step, named in the warning; Ctrl-C ends the command after a warning."""
        try:
            yield
        except KeyboardInterrupt:
            _log.warning("%s was interrupted. The model is saved in %s.", name, self.folder)
            raise
        except Exception as error:
            _log.info("%s failed", name, exc_info=True)
            self.warnings.append(
                f"{name} failed ({reason(error)}). The model is saved in {self.folder}."
            )


def reason(error: Exception) -> str:
    """Write an error in one sentence, without a full stop and, if it is a usual one, its class."""
    if isinstance(error, UserError):
        return error.located.rstrip(".")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"
