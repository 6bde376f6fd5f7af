"""What fine-tuning starts from: the model of a run, its tokenizer and its training documents."""

from collections.abc import Iterator
from pathlib import Path

from groundup.base.device import choose_device, set_threads
from groundup.base.errors import UserError
from groundup.base.folder_kinds import find_run
from groundup.base.malloc import keep_freed
from groundup.base.run import RunFolder, check_name
from groundup.evaluation.load import LanguageModel, load
from groundup.evaluation.run_data import data_of
from groundup.finetune.outcome import check_place
from groundup.model.gpt import GPT
from groundup.text.corpus import read_corpus
from groundup.text.documents import Document


def open_foundation(run: Path, *, device: str, threads: int | None) -> LanguageModel:
    """Load the model and the tokenizer of a run for fine-tuning.

    Args:
        run: A run folder, or one of its checkpoints.
        device: "auto", "cpu" or "cuda".
        threads: Number of CPU threads. None: all cores.

    Raises:
        UserError: There is no intact model, or the device is not available.
    """
    where = choose_device(device)
    set_threads(threads)
    keep_freed()
    foundation = load(run)
    foundation.model.to(where)
    return foundation


def target_folder(run: Path, out: Path | None, name: str, model: GPT) -> Path:
    """Choose where the fine-tuned model will be written, and check that it can be.

    Args:
        run: The run of the foundation model, or one of its checkpoints.
        out: The folder that was asked for. None: RUN/`name`.
        name: "classifier" or "assistant".
        model: The foundation model.

    Raises:
        UserError: The location cannot be written to, or the disk is too full.
    """
    folder = RunFolder.of(run).path / name if out is None else out
    check_name(folder)
    check_place(folder, sum(p.numel() * p.element_size() for p in model.parameters()))
    return folder


def documents_of(
    run: Path | None, data: Path | None, split: str, *, instead: str
) -> Iterator[Document]:
    """Open the documents that a run was trained on ("train") or validated on ("validation").

    Args:
        run: The run folder, or any path inside it. None: the newest run.
        data: The data folder. None: the data of the run.
        split: "train" or "validation".
        instead: The setting that names a file of examples, which needs no documents.

    Raises:
        UserError: The data of the run was not found, or has changed since.
    """
    folder = RunFolder.of(find_run(run))
    if data is None and folder.is_imported and not (folder.path / "data").is_dir():
        raise UserError(
            "This model was imported, so the run has no documents to make examples from. A file of "
            f"examples (`{instead}`) or a data folder (`data`) is expected.",
            where=folder.path,
        )
    return read_corpus(data_of(folder) if data is None else data, split)
