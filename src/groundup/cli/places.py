"""Refuse a place where the result cannot be written, before a command starts to work."""

from pathlib import Path
from typing import Any

from groundup.base.errors import UserError, joined, quoted
from groundup.base.newest_run import newest_run
from groundup.base.run import RunFolder
from groundup.base.writable import why_not_writable, writable_place
from groundup.cli.console import typed, with_positional
from groundup.cli.verbs import Verb

_IN_RUN = {
    "export": "huggingface",
    "classify": "classifier",
    "instruct": "assistant",
    "prefer": "preferred",
    "reinforce": "reinforced",
    "report": "report.html",
}
"""Where in the run a command writes without --out."""


def refuse_unwritable(verb: Verb, config: Any) -> None:
    """Check the folder that a command writes its main result to.

    Raises:
        UserError: It cannot be written to. The command in it writes somewhere else.
    """
    if verb.writes is None:
        return
    place = getattr(config, verb.writes)
    if verb.name in _IN_RUN and place is None:
        run = newest_run(verb.requires) if config.run is None else config.run
        _refuse(RunFolder.of(run).path / _IN_RUN[verb.name], "out", inside=run)
    elif verb.writes == "data":
        _refuse_copying(verb, config, place)
    elif verb.name == "prepare":
        _refuse(place, verb.writes, is_new=False)
    else:
        _refuse(Path("runs", "imported") if place is None else place, verb.writes)


def _refuse(place: Path, setting: str, inside: Path | None = None, *, is_new: bool = True) -> None:
    """Check a place; `is_new` is False for a command that writes into a folder that exists."""
    if inside is not None and not inside.exists():
        return  # that is the error to report
    reason = why_not_writable(place if place.is_dir() else place.absolute().parent)
    if is_new:
        # A taken name gets a number: then a folder beside it is written.
        reason = reason or why_not_writable(place.absolute().parent)
    if reason is not None:
        raise UserError(
            f"This cannot be written ({reason}). A writable location is expected.",
            where=place,
            settings={setting: str(writable_place(place))},
        )


def _refuse_copying(verb: Verb, config: Any, folder: Path) -> None:
    """For a command without --out: its result is a part of the folder that it reads."""
    if not folder.is_dir():  # that is the error to report
        return
    reason = why_not_writable(folder)
    if reason is not None:
        copy = writable_place(folder)
        words = ["groundup", *with_positional(typed, verb, str(copy))]
        if getattr(config, "overwrite", True) is False:
            words.append("--overwrite")  # of the copy
        command = joined(words)
        raise UserError(
            f"The result of `{verb.name}` is written into this folder, which cannot be written to "
            f"({reason}). Copy it, and work on the copy.",
            where=folder,
            command=f"cp -r {quoted(folder)} {quoted(copy)} && "
            f"chmod -R u+w {quoted(copy)} && {command}",
        )
