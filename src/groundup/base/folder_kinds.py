"""What a folder is, by the files in it, and the error where another kind is expected."""

import os
from pathlib import Path

from groundup.base.errors import UserError, quoted
from groundup.base.free_name import or_free_name
from groundup.base.newest_run import Need, list_runs, newest_run
from groundup.base.run import RunFolder

_MOST_NAMED = 3
_SCANNED_FILES = 2_000
_PARTS = ("corpus", "train", "validation", "tokenizer")
"""The folders in a data folder."""


def is_data(folder: Path) -> bool:
    """Whether `prepare` or `encode` wrote this folder: it has a corpus or token stores."""
    parts = ("corpus/manifest.json", "train/documents.npy", "validation/documents.npy")
    return any((folder / part).is_file() for part in parts)


def data_with_stores(path: Path) -> Path | None:
    """Return the data folder with token stores that a path is, or is a part of, if it is one."""
    for folder in (path, path.parent) if path.name in _PARTS else (path,):
        if (folder / "train" / "documents.npy").is_file():
            return folder
    return None


def find_run(path: Path | None, need: Need = "model") -> Path:
    """Return the path of a run, or the newest run that can serve where it is None.

    Raises:
        UserError: There is no run, or the path is a folder of another kind.
    """
    if path is None:
        return newest_run(need)
    refuse_other_than_run(path)
    return path


def refuse_other_than_run(path: Path) -> None:
    """Check that a path is in a run or holds weights of ours, as far as its files show.

    Raises:
        UserError: It does not exist, or it is a folder of another kind.
    """
    if not path.exists():
        raise _no_run(path)
    if RunFolder.of(path).is_run and not _is_huggingface(path):
        return
    if path.is_file():
        runs = [run.path for run in list_runs() if run.checkpoints()]
        raise UserError(
            "This is a file, not a run. A folder made by `groundup pretrain` or `groundup story` "
            "is expected.",
            where=path,
            settings={"run": str(runs[0])} if runs else None,
        )
    data = next((f for f in (path, path.parent) if is_data(f)), None)
    if data is not None:
        what = "data folder" if data == path else "part of a data folder"
        runs = [run.path for run in list_runs() if _was_made_from(run, data)]
        if runs:
            raise UserError(
                f"This is a {what}, not a run. Runs made from it: {_listed(runs)}.",
                where=path,
                settings={"run": str(runs[0])},
            )
        has_stores = (data / "train" / "documents.npy").is_file()
        raise UserError(
            f"This is a {what}, not a run. No run in runs/ was made from it.",
            where=path,
            command=f"groundup {'pretrain' if has_stores else 'train-tokenizer'} {quoted(data)}",
        )
    if _is_huggingface(path):
        raise UserError(
            "This is a Hugging Face folder, not a run. Import its model first.",
            where=path,
            command=f"groundup import {quoted(path)}",
        )
    n_files = _count_texts(path)
    if n_files and not (path / "model.json").is_file():
        raise UserError(
            f"This folder holds {_plural(n_files, 'text file')}, not a run. A folder made by "
            "`groundup pretrain` or `groundup story` is expected.",
            where=path,
            command=_use_a_run(path),
        )


def not_data(folder: Path) -> UserError | None:
    """Return the error for a folder that is used as a data folder and is of another kind.

    None: it may be a data folder that is incomplete.
    """
    if not folder.is_dir():
        return _no_data(folder)
    if is_data(folder):
        return None
    outer = folder.parent
    if RunFolder(folder).is_run:
        places = [place for place, _ in RunFolder(folder).data_folders() if is_data(place)]
        made = f" It was made from {_short(places[0])}." if places else ""
        return UserError(
            f"This is a run, not a data folder.{made}",
            where=folder,
            settings={"data": str(_short(places[0]))} if places else None,
        )
    if is_data(outer) and folder.name in _PARTS:
        return UserError(
            f"This is a part of the data folder {outer}. The data folder is expected.",
            where=folder,
            settings={"data": str(outer)},
        )
    if _is_huggingface(folder):
        return UserError(
            "This is a Hugging Face folder, not a data folder. A folder made by "
            "`groundup prepare` is expected.",
            where=folder,
        )
    if n_files := _count_texts(folder):
        out = or_free_name(Path("data"))
        return UserError(
            f"This folder holds {_plural(n_files, 'text file')}, not prepared data. Prepare the "
            "text in it first.",
            where=folder,
            command=f"groundup prepare {quoted(folder)}"
            + ("" if out == Path("data") else f" --out {quoted(out)}"),
        )
    return _no_data(folder)


def _no_run(path: Path) -> UserError:
    runs = [run.path for run in list_runs() if run.checkpoints()]
    if runs:
        return UserError(
            f"There is no run folder at this path. Runs in runs/: {_listed(runs)}.",
            where=path,
            settings={"run": str(runs[0])},
        )
    return UserError(
        "There is no run folder at this path. A folder made by `groundup pretrain` or "
        "`groundup story` is expected.",
        where=path,
        command="groundup story",
    )


def _no_data(folder: Path) -> UserError:
    if folder.is_file():
        out = or_free_name(Path("data"))
        return UserError(
            "This is a file, not a data folder. Prepare the text in it first.",
            where=folder,
            command=f"groundup prepare {quoted(folder)}"
            + ("" if out == Path("data") else f" --out {quoted(out)}"),
        )
    found = "This folder is empty" if folder.is_dir() else "This data folder does not exist"
    usual = Path("data")
    if folder != usual and is_data(usual):
        return UserError(
            f"{found}. There is a data folder at {usual}.",
            where=folder,
            settings={"data": str(usual)},
        )
    return UserError(
        f"{found}. A folder made by `groundup prepare` is expected.",
        where=folder,
        command=f"groundup prepare --out {quoted(folder)}",
    )


def _use_a_run(path: Path) -> str:
    data = next((f for f in (path / "data", Path("data")) if is_data(f)), None)
    return f"groundup story {quoted(path)}" if data is None else f"groundup pretrain {quoted(data)}"


def _was_made_from(run: RunFolder, data: Path) -> bool:
    try:
        return any(
            place.resolve() == data.resolve() for place, known in run.data_folders() if known
        )
    except UserError:
        return False


def _is_huggingface(path: Path) -> bool:
    is_ours = (path / "model.json").is_file()
    has_weights = any(path.glob("*.safetensors")) if path.is_dir() else False
    return has_weights and not is_ours and (path / "config.json").is_file()


def _count_texts(folder: Path) -> int:
    """Count the text files in a folder and the folders in it, hidden ones left out."""
    n_texts, n_files = 0, 0
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            n_files += 1
            n_texts += not name.startswith(".") and _is_text(Path(place, name))
        if n_files >= _SCANNED_FILES:
            break
    return n_texts


def _is_text(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return b"\0" not in file.read(512)
    except OSError:
        return False


def _short(path: Path) -> Path:
    """The path relative to the working directory, if it is inside it."""
    here = Path.cwd()
    resolved = path.resolve()
    return resolved.relative_to(here) if resolved.is_relative_to(here) else path


def _listed(runs: list[Path]) -> str:
    more = f" and {len(runs) - _MOST_NAMED} more" if len(runs) > _MOST_NAMED else ""
    return ", ".join(map(str, runs[:_MOST_NAMED])) + more


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
