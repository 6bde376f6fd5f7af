"""Find what `serve` serves: a run, a checkpoint, an assistant, or the name of an imported model."""

import re
from pathlib import Path

from groundup.base.errors import UserError, quoted
from groundup.base.folder_kinds import find_run
from groundup.base.newest_run import RUNS, newest_chat
from groundup.base.run import RunFolder
from groundup.base.surrogates import without_surrogates
from groundup.chat.open_cast import cast_of, is_run_itself
from groundup.evaluation.load import refuse_classifier
from groundup.weights.find_source import SMOLLM2, short_name

_NAME = re.compile(r"([\w.-]+/)?[\w.-]+")


def find_model(path: Path | None) -> Path:
    """Return the folder of the model to serve: who answers in `groundup chat`.

    In a run that was trained on plays, this is the run itself, with its cast; otherwise what was
    fine-tuned for chats last, or the run.

    Raises:
        UserError: There is no such run, it is a classifier, or the model has not been imported.
    """
    if path is not None and not path.exists():
        path = _imported(path)
    found = find_run(path)
    refuse_classifier(RunFolder.of(found))
    if not is_run_itself(found):
        return found
    return found if cast_of(found) is not None else newest_chat(found) or found


def model_name(folder: Path) -> str:
    """Name a model as clients ask for it.

    The run runs/story is story, and its assistant is story/assistant.
    """
    folder = folder.absolute()
    run = RunFolder.of(folder).path
    outer = RunFolder.of(run.parent)
    if outer.is_run and outer.path != run:  # an assistant in its run
        return without_surrogates(f"{outer.path.name}/{run.relative_to(outer.path)}")
    return without_surrogates(run.name)


def _imported(path: Path) -> Path:
    """Find the run that `import` made of a source of this name."""
    if not _NAME.fullmatch(str(path)) or ".." in path.parts:
        return path
    run = RUNS / short_name(path)
    if RunFolder(run).is_run:
        return run
    if str(path) == SMOLLM2:
        raise UserError(
            f"{SMOLLM2} has not been imported: there is no run {run}. Import it first.",
            command=f"groundup import {SMOLLM2} && groundup serve {quoted(run)}",
        )
    return path
