"""What a data folder contains already, and whether `prepare` may replace it.

A corpus of the same sources may be replaced, which is what happens after a text was edited. What
was made from other sources, what groundup did not write, and what a run was trained on, is kept.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from groundup.base.dependents import read_table, runs_on
from groundup.base.errors import UserError
from groundup.base.files import in_place, remove_left_over
from groundup.base.free_name import free_name
from groundup.base.run import RunFolder
from groundup.base.undo import all_or_nothing, locked
from groundup.text.builtin import BUILTIN_NAME, BUILTIN_TEXTS
from groundup.text.catalog import CATALOG
from groundup.text.corpus import (
    DATA_PARTS,
    SIDES,
    is_corpus,
    recorded_sizes,
    recorded_sources,
)
from groundup.text.sources import Source
from groundup.text.stores import n_referenced_bytes, store_manifest

_CHOICE = "Choose another data folder, or set overwrite to replace what it contains."
_SHOWN = 3


def check_replaceable(
    out: Path,
    held: dict[str, Any] | None,
    words: Iterable[str],
    sources: Iterable[Source],
    *,
    overwrite: bool,
) -> bool:
    """Refuse to write a corpus where it would replace something else.

    Args:
        out: The data folder.
        held: The manifest of the corpus in it, if there is one.
        words: The sources as they were named.
        sources: The sources that were found.
        overwrite: Whether other sources and what runs were trained on may be replaced. Files that
            groundup did not write are never replaced.

    Returns:
        Whether the new corpus has to be equal to the present one.

    Raises:
        UserError: The folder contains something else.
    """
    another = {"out": str(free_name(out))}
    run = RunFolder(out)
    if run.config_path.is_file() and "verb" in read_table(run.manifest_path):
        raise UserError(
            "This is a run folder. A data folder is expected.", where=out, settings=another
        )
    if not is_corpus(out / "corpus"):
        raise UserError(
            "This folder contains files that are not part of a corpus, and they are not "
            "overwritten. Choose another data folder.",
            where=out / "corpus",
            settings=another,
        )
    if overwrite:
        return False
    if held is not None and not _is_same(held, words, sources):
        raise UserError(
            f"This data folder already contains {describe(held)}. {_CHOICE}",
            where=out,
            settings=another,
        )
    for side in SIDES:
        manifest = store_manifest(out / side)
        if manifest is not None and not _is_made_from(out, held, side, manifest):
            raise UserError(
                f"This token store was not made from a corpus of this data folder. {_CHOICE}",
                where=out / side,
                settings=another,
            )
    return held is not None and ("-" in words or bool(runs_on(out)))


def refused_change(out: Path, held: dict[str, Any]) -> UserError:
    """The error for a corpus that has to be equal to the present one, and is not."""
    runs = runs_on(out)
    found = f"This data folder already contains {describe(held)}, and the new text is another one."
    if runs:
        found = f"{found} The run {runs[0]} was trained on the present one."
    another = {"out": str(free_name(out))}
    return UserError(f"{found} {_CHOICE}", where=out, settings=another)


@contextmanager
def changing(
    data: Path, *, always: bool = False, names: Iterable[str] = DATA_PARTS
) -> Iterator[None]:
    """Let no other process change a data folder, and restore it if an error occurs in the block.

    Temporary files that killed processes left in it are removed. A new folder in which nothing was
    written is removed after an error.

    Args:
        data: The data folder; it is created if it does not exist.
        always: Restore it in any case. Otherwise only if there is something to replace: what is
            new and complete stays, so that an interrupted command can continue.
        names: What the block replaces.

    Raises:
        UserError: The folder cannot be written to, or another process is changing it.
    """
    missing = [place for place in (data, *data.parents) if not place.exists()]
    try:
        with in_place(data, "nothing was changed"):
            data.mkdir(parents=True, exist_ok=True)
        with locked(data):
            for name in DATA_PARTS:
                remove_left_over(data / name)
            is_restored = always or any((data / name).is_dir() for name in names)
            with all_or_nothing(data, DATA_PARTS) if is_restored else nullcontext():
                yield
    except BaseException:
        for place in missing:
            with suppress(OSError):
                place.rmdir()  # only if it is empty: nothing was written
        raise


def source_names(words: Iterable[str]) -> list[str]:
    """Identify the sources that were named, in order, from any working directory."""
    return list(dict.fromkeys(map(_name, words)))


def describe(held: dict[str, Any]) -> str:
    """Say what a corpus contains: its sources and its number of documents.

    >>> sides = {"train": {"n_documents": 9}, "validation": {"n_documents": 1}}
    >>> describe({"sources": ["/a.txt"], "sides": sides, "rule": "by document"})
    'a corpus of 10 documents from /a.txt'
    """
    names = recorded_sources(held)
    shown = ", ".join(names[:_SHOWN])
    if len(names) > _SHOWN:
        shown += f" and {len(names) - _SHOWN:,} more"
    n = held["sides"]["train"]["n_documents"]
    if held["rule"] == "by document":
        n += held["sides"]["validation"]["n_documents"]
    return f"a corpus of {n:,} {'document' if n == 1 else 'documents'} from {shown}"


def _name(word: str) -> str:
    if word in (BUILTIN_NAME, "-") or ":" in word.split("/")[0]:
        return word
    path = Path(word)
    if (word in CATALOG or word in BUILTIN_TEXTS) and not path.exists():
        return word
    return str(path.resolve()) if path.exists() else os.path.abspath(word)


def _is_same(held: dict[str, Any], words: Iterable[str], sources: Iterable[Source]) -> bool:
    """Whether a corpus was made from these sources, unchanged or not."""
    if "sources" in held:
        return set(recorded_sources(held)) == set(source_names(words))
    # Version 0.1 recorded files. None of them may get lost.
    places = {source.place for source in sources}
    return set(recorded_sources(held)) <= places | {str(Path(p).resolve()) for p in places}


def _is_made_from(out: Path, held: dict[str, Any] | None, side: Any, store: dict[str, Any]) -> bool:
    if held is None:
        return False
    try:
        return n_referenced_bytes(out, side, recorded_sizes(held)[side], store) > 0
    except OSError:  # the corpus is damaged
        return True
