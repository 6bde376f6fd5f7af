"""LoRA adapters of peft: import one as a run, and export that of a run."""

import shutil
from pathlib import Path
from typing import NamedTuple

from groundup.base.checkpoints import step_name
from groundup.base.errors import UsageError, UserError, quoted
from groundup.base.files import atomic_folder, read_json, write_json, write_text
from groundup.base.run import RunFolder
from groundup.evaluation.load import ASSISTANT_MARK, LanguageModel, load
from groundup.evaluation.merged import ADAPTER, MergeReport, compare_merged, merge_and_save
from groundup.model.gpt import GPT
from groundup.weights.adapter import WEIGHTS_FILE, is_adapter, load_adapter, weights_sha256
from groundup.weights.adapter_config import CONFIG_FILE, read_adapter_config
from groundup.weights.huggingface import can_export

_FILES = (CONFIG_FILE, WEIGHTS_FILE)
_BASE = "base_model_name_or_path"
_TEXT = (
    "The library was founded in 1902 by a small group of teachers. Its first room held four "
    "hundred books, most of them gifts, and a single lamp. Visitors could read for as long as the "
    "lamp had oil, and they wrote their names in a ledger that is still on display today.",
    "To make the soup, chop two onions and three carrots, fry them in a little oil, and add a "
    "liter of water. Let it boil for twenty minutes. What is 12 + 30? It is 42.",
)


class AdapterRun(NamedTuple):
    """A run that was made of a base and an adapter."""

    run: RunFolder
    language_model: LanguageModel
    merge: MergeReport


def import_adapter(source: Path, base: Path | None, out: Path) -> AdapterRun:
    """Merge an adapter into its base, and write both as a new run.

    Args:
        source: The folder of the adapter.
        base: The run of the model that it was trained on.
        out: The run folder. If the name is taken, -2 is added.

    Raises:
        UserError: There is no base, or the adapter is invalid or belongs to another base.
    """
    name = read_adapter_config(source).base_name
    if base is None:
        is_run = name is not None and Path(name).is_dir()
        raise UsageError(
            "This is a LoRA adapter" + (f" of {name}" if name else "") + ". The run of the model "
            "that it was trained on is expected as its base.",
            where=source,
            settings={"base": name} if is_run else None,
        )
    language_model = load(base)
    sha256 = weights_sha256(language_model.model)
    load_adapter(language_model.model, source)
    run = RunFolder.create(out)
    try:
        with atomic_folder(run.path) as temporary:
            report = merge_and_save(
                language_model.model,
                temporary,
                base_name=name or str(base),
                base_sha256=sha256,
                check_ids=_rows(language_model),
            )
            language_model.save_tokenizer(temporary)
            if language_model.is_assistant:
                write_json(temporary / ASSISTANT_MARK, {"source": str(source)})
            written = RunFolder(temporary)
            checkpoint = written.checkpoints_path / step_name(0)
            checkpoint.mkdir(parents=True)
            for file in temporary.glob("model.*"):
                file.rename(checkpoint / file.name)
            write_text(written.checkpoints_path / "latest", f"{step_name(0)}\n")
            written.write_manifest(
                {
                    "job": "import",
                    "source": str(source),
                    "foundation": str(base.absolute()),
                    **language_model.special_ids.to_manifest(),
                }
            )
            written.write_readme(
                f"# LoRA adapter merged into {base}\n\nThe adapter is in `{ADAPTER}/`. "
                f"{report.sentence}\n"
            )
    except BaseException:
        run.path.rmdir()
        raise
    return AdapterRun(run, language_model, report)


class ExportedAdapter(NamedTuple):
    """An adapter that was written for peft."""

    folder: Path
    n_parameters: int
    n_checked_tokens: int
    """0: the base was not found, so that nothing was compared."""
    max_logit_difference: float
    notes: tuple[str, ...]


def export_adapter(run: RunFolder, out: Path | None, model: GPT) -> ExportedAdapter:
    """Copy the adapter of a run for peft, and compare base and adapter with the merged model.

    Args:
        run: A run that was fine-tuned with LoRA.
        out: The folder to write. None: RUN/peft.
        model: The merged model of the run.

    Raises:
        UserError: The run has no adapter, or the folder contains other files.
    """
    source, folder = run.path / ADAPTER, run.path / "peft" if out is None else out
    if not is_adapter(source):
        raise UsageError(
            "This run has no adapter: it was not fine-tuned with LoRA. The complete model can be "
            "exported.",
            where=run.path,
            settings={"to": "hf"},
        )
    if added := run.read_manifest().get("added_tokens"):
        raise UsageError(
            f"{', '.join(added)} were added to the base before this adapter was trained, and their "
            "embeddings are not in the adapter. The complete model can be exported.",
            where=run.path,
            settings={"to": "hf"},
        )
    if not can_export(model.config):
        raise UserError(
            "There is no class of transformers for the base of this adapter, so peft cannot use "
            "it.",
            where=run.path,
        )
    foreign = [f for f in folder.iterdir() if f.name not in _FILES] if folder.is_dir() else []
    if foreign or folder.is_file():
        raise UserError(
            "Expected a new or empty folder, or an earlier export of an adapter.",
            where=foreign[0] if foreign else folder,
            settings={"out": f"{folder}-2"},
        )
    about = read_json(source / CONFIG_FILE)
    notes: list[str] = []
    base, n_tokens, difference, n_parameters = _base_of(run, str(about.get(_BASE))), 0, 0.0, 0
    if base is None:
        notes.append(
            f"The base ({about.get(_BASE)}) was not found, so the adapter was not compared with "
            "the model."
        )
    else:
        language_model = load(base.path)
        load_adapter(language_model.model, source)
        report = compare_merged(language_model.model, model, _rows(language_model))
        n_tokens, difference = report.n_tokens, report.max_logit_difference
        n_parameters = report.n_adapter_parameters
        about[_BASE] = _name_for_peft(base)
        if about[_BASE] == str(base.huggingface) and not base.huggingface.is_dir():
            command = f"groundup export {quoted(base.path)}"
            notes.append(f"peft also needs the base, which `{command}` writes.")
    with atomic_folder(folder) as temporary:
        shutil.copyfile(source / WEIGHTS_FILE, temporary / WEIGHTS_FILE)
        write_json(temporary / CONFIG_FILE, about)
    return ExportedAdapter(folder, n_parameters, n_tokens, difference, tuple(notes))


def _rows(language_model: LanguageModel) -> list[list[int]]:
    """Texts to compare models on, as ids."""
    try:
        return [language_model.tokenizer.encode(text) for text in _TEXT]
    except UserError:  # a tokenizer that lacks some of the characters
        return [list(range(min(256, language_model.tokenizer.vocab_size)))]


def _base_of(run: RunFolder, name: str) -> RunFolder | None:
    """Find the run of the base: by its name, or as the run that contains this one."""
    for candidate in (Path(name), run.outer.path):
        if candidate.is_dir() and candidate.resolve() != run.path.resolve():
            return RunFolder.of(candidate)
    return None


def _name_for_peft(base: RunFolder) -> str:
    """The folder or the hub name from which transformers opens the base."""
    source = str(base.read_manifest().get("source", ""))
    is_on_hub = source.count("/") == 1 and not Path(source).exists()
    if not base.huggingface.is_dir() and (is_on_hub or (Path(source) / "config.json").is_file()):
        return source
    return str(base.huggingface)
