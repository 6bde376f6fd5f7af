"""Find the data that a run was trained on, wherever the run and the data are now.

`RunFolder` lists the folders where the data may be. The manifest of the run holds the fingerprints
of its token stores, its tokenizer and its texts; only a folder whose content agrees with them is
used, so that the data of another project is never taken by its name alone.
"""

import typing
from pathlib import Path
from typing import Any

from groundup.base.errors import UserError, quoted
from groundup.base.files import read_json
from groundup.base.folder_kinds import not_data
from groundup.base.run import RunFolder
from groundup.data.manifest import is_store, rebuild_command
from groundup.data.store import TokenStore
from groundup.data.windows import Documents
from groundup.text.corpus import SIDES
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.replacing import another_folder


def data_of(run: RunFolder) -> Path:
    """Find the data folder that a run was trained on.

    For a classifier or an assistant this is the data of the run that it was fine-tuned from.

    Raises:
        UserError: The run does not record its data, the data is not there any more, or it has
            changed since.
    """
    run = pretraining_of(run)
    return _find(run, run.read_manifest())


def pretraining_of(run: RunFolder) -> RunFolder:
    """Find the run that a classifier or an assistant was fine-tuned from; other runs: itself."""
    manifest = run.read_manifest()
    if "data" in manifest or "foundation" not in manifest:
        return run
    recorded = Path(str(manifest["foundation"]))
    for outer in (RunFolder.of(run.path.resolve().parent), RunFolder.of(recorded)):
        if outer.is_run and outer.path.resolve() != run.path.resolve():
            return pretraining_of(outer)
    return run


def texts_of(run: RunFolder) -> tuple[tuple[Path, float], ...]:
    """Find the data folders that a run was trained on, and their weights in its mixture.

    For a classifier or an assistant these are the texts of the run that it was fine-tuned from.

    Raises:
        UserError: See `data_of`.
    """
    run = pretraining_of(run)
    mix = run.read_manifest().get("mix")
    if not isinstance(mix, list):
        return ((_find(run, run.read_manifest()), 1.0),)
    return tuple((_find(run, text), float(text["weight"])) for text in mix)


def documents_of(run: RunFolder) -> Documents:
    """Return how the windows of a run hold documents, by the config.toml of its pretraining."""
    run = pretraining_of(run)
    stored = run.read_config().get("documents") if run.config_path.is_file() else None
    return next((each for each in typing.get_args(Documents) if each == stored), "stream")


def open_side(data: Path, name: str, tokenizer: Tokenizer, run: RunFolder) -> TokenStore:
    """Open the train or the validation store of a data folder, for the model of a run.

    Raises:
        UserError: There is no such store, or it was made with another tokenizer.
    """
    if not (data / name).is_dir():
        raise not_data(data) or UserError(
            f"There is no {name} store in this folder. Data encoded by `groundup train-tokenizer` "
            "or `groundup encode` is expected.",
            where=data,
            command=rebuild_command(data / name) if (data / "corpus").is_dir() else "",
        )
    store = TokenStore.open(data / name)
    if store.tokenizer_fingerprint != tokenizer.fingerprint:
        raise UserError(
            "These tokens were made with another tokenizer than that of the model. Data that was "
            "encoded with the tokenizer of the run is expected.",
            where=data / name,
            command=_encode_again(data, run),
        )
    return store


def _encode_again(data: Path, run: RunFolder) -> str:
    """Write the command that encodes the corpus for the run; empty if a part is missing."""
    if not ((data / "corpus").is_dir() and run.tokenizer.is_dir()):
        return ""
    return another_folder(data, "encode", options=f"--tokenizer {quoted(run.tokenizer)}")


def _find(run: RunFolder, manifest: dict[str, Any]) -> Path:
    """Find one data folder of a run, by what the manifest records of it."""
    problems: list[UserError] = []
    has_fingerprints = any(key in manifest for key in _CHECKS)
    settings = {"data": "path/to/data"}
    for folder, is_known in run.data_folders(manifest):
        try:
            agree, differ = _compare(folder, manifest)
        except UserError as error:  # a damaged store
            problems.append(error)
            continue
        if differ:
            problems.append(
                UserError(
                    f"This is not the data that the run {run.path} was trained on: {differ[0]} "
                    "is different from the one recorded in the manifest of the run. Name the data "
                    "folder explicitly to use it anyway.",
                    where=folder,
                    settings=settings,
                )
            )
        elif agree or (is_known and not has_fingerprints and _is_data(folder)):
            return folder
    if problems:
        raise problems[0]
    if run.is_imported:
        raise UserError(
            "This model was imported, so the text that it was trained on is not known. A data "
            "folder that was encoded with its tokenizer is expected.",
            where=run.path,
            command=f"groundup prepare my.txt --tokenizer {quoted(run.tokenizer)}",
        )
    if "data" not in manifest:
        raise UserError(
            "The manifest of this run does not record which data it was trained on.",
            where=run.path,
            settings=settings,
        )
    raise UserError(
        f"The data that this run was trained on is not at {manifest['data']} any more, and not "
        "beside the run.",
        where=run.path,
        settings=settings,
    )


_CHECKS = ("train_fingerprint", "validation_fingerprint", "tokenizer_fingerprint", "corpus_sha256")


def _compare(folder: Path, manifest: dict[str, Any]) -> tuple[list[str], list[str]]:
    """List what of a folder agrees with the manifest of a run, and what differs."""
    agree: list[str] = []
    differ: list[str] = []

    def check(name: str, found: object, recorded: object) -> None:
        if recorded is not None:
            (agree if found == recorded else differ).append(name)

    for side in SIDES:
        if is_store(folder / side):
            store = TokenStore.open(folder / side)
            check(
                f"the tokenizer of its {side} tokens",
                store.tokenizer_fingerprint,
                manifest.get("tokenizer_fingerprint"),
            )
            check(f"the {side} store", store.fingerprint, manifest.get(f"{side}_fingerprint"))
    texts = manifest.get("corpus_sha256")
    if isinstance(texts, dict) and (folder / "corpus" / "manifest.json").is_file():
        sides = read_json(folder / "corpus" / "manifest.json").get("sides", {})
        for side in SIDES:
            found = sides.get(side, {}).get("sha256")
            check(f"the {side} text", found, texts.get(f"{side}.jsonl"))
    return agree, differ


def _is_data(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in ("corpus", *SIDES))
