"""What an assistant can truly say about itself: its name, its size and what it was trained on."""

from pathlib import Path

from groundup.base.errors import UserError
from groundup.base.files import read_json
from groundup.base.run import RunFolder
from groundup.evaluation.run_data import texts_of
from groundup.finetune.instruct.synthetic import Identity
from groundup.text.catalog import in_words
from groundup.text.corpus import recorded_sources


def identity_of(run: Path, data: Path | None, n_parameters: int) -> Identity:
    """Take the name from the run folder, and the text from its data."""
    folder = RunFolder.of(run)
    return Identity(
        name=folder.path.resolve().name,
        n_parameters=n_parameters,
        trained_on=_text_of(folder, data),
    )


def _text_of(run: RunFolder, data: Path | None) -> str:
    try:
        folders = [folder for folder, _ in texts_of(run)] if data is None else [data]
        manifests = [read_json(folder / "corpus" / "manifest.json") for folder in folders]
        sources = [source for manifest in manifests for source in recorded_sources(manifest)]
    except UserError:
        return "the documents of this run"
    return in_words(sources[0]) if len(sources) == 1 else f"{len(sources)} texts"
