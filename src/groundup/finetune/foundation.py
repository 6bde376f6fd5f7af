"""What fine-tuning starts from: the model of a run, its tokenizer and its training documents."""

import tomllib
from pathlib import Path

from groundup.base.device import choose_device, set_threads
from groundup.base.errors import UserError
from groundup.base.malloc import keep_freed
from groundup.evaluation.load import LanguageModel, load
from groundup.text.corpus import read_corpus
from groundup.text.documents import Document


def open_foundation(run: Path, *, device: str, threads: int | None) -> LanguageModel:
    """Load the model and the tokenizer of a run for fine-tuning.

    Args:
        run: A run folder, or one of its checkpoints.
        device: "auto", "cpu" or "cuda".
        threads: Number of CPU threads; None uses all cores.

    Raises:
        UserError: The folder contains no complete model, or the device is not available.
    """
    where = choose_device(device)
    set_threads(threads)
    keep_freed()
    foundation = load(run)
    foundation.model.to(where)
    return foundation


def documents_of(run: Path, data: Path | None, split: str) -> list[Document]:
    """Read the documents that a run was trained or validated on.

    Args:
        run: A run folder, or one of its checkpoints.
        data: The data folder; None uses the one that the run was trained on.
        split: "train" or "validation".

    Raises:
        UserError: The data folder is unknown or missing.
    """
    return list(read_corpus(data or _data_folder(run), split))


def _data_folder(run: Path) -> Path:
    # The run folder itself, or two floors up from RUN/checkpoints/step-000500.
    for folder in (run, *run.resolve().parents[:2]):
        path = folder / "config.toml"
        if path.is_file():
            named = tomllib.loads(path.read_text(encoding="utf-8")).get("data")
            if isinstance(named, str) and (Path(named) / "corpus").is_dir():
                return Path(named)
            raise UserError(
                f"its text ({named}) is not there any more",
                where=path,
                need="the data folder the run was made of",
                type_this="--data FOLDER",
            )
    raise UserError(
        "no config.toml tells which text this model was made of",
        where=run,
        need="a data folder",
        type_this="--data FOLDER",
    )
