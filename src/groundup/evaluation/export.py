"""Export a run as a Hugging Face folder, and read it back to check that the model is the same.

An export says what the weights do not: the ids at which texts and answers end, and for an assistant
the chat template. Both are compared with ours after writing, as the logits are.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from groundup.base.calling import takes_settings
from groundup.base.errors import UserError
from groundup.base.files import atomic_folder, read_json, write_json
from groundup.base.folder_kinds import find_run
from groundup.evaluation.load import LanguageModel, load, run_of
from groundup.evaluation.pretrained import KEPT_FILES
from groundup.model.gpt import GPT
from groundup.tokenizer.chat_template import CHAT_TEMPLATE, check_chat_template
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.special import END_OF_TEXT
from groundup.weights.checkpoint_format import model_folders, open_model
from groundup.weights.config import ExportConfig
from groundup.weights.huggingface import refuse_foreign_folder, write_huggingface
from groundup.weights.huggingface_folder import import_huggingface
from groundup.weights.special_ids import SpecialIds, as_ids, one_end, read_special_ids


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What was written, and how the written model compares with the one that was exported."""

    folder: Path
    checkpoint: Path
    model_class: str
    n_parameters: int
    n_bytes: int
    has_tokenizer: bool
    n_checked_tokens: int
    max_logit_difference: float
    eos_token_ids: tuple[int, ...] = ()
    """Ids at which `generate` of transformers stops."""
    n_checked_template_ids: int = 0
    """Number of ids of the chat template that were compared. 0: there is no template of ours."""


@takes_settings(ExportConfig, "run")
def export(config: ExportConfig) -> ExportResult:
    """Write the model and its tokenizer as a folder, read both back and compare them.

    The logits of the model are compared, and for an assistant the ids of its chat template.

    Raises:
        UserError: There is no model, no class of transformers computes it, the folder is taken, or
            what was read back differs.
    """
    path = find_run(config.run)
    run = run_of(path, model_folders(path)[0])
    if (run.path / "labels.json").is_file():
        raise UserError(
            "This is a classifier. Only language models can be exported: the format has no place "
            "for the head of a classifier.",
            where=run.path,
        )
    folder = run.huggingface if config.out is None else config.out
    refuse_foreign_folder(folder)
    tokenizer = run.tokenizer / "tokenizer.json"
    has_tokenizer = tokenizer.is_file() and _is_huggingface_schema(tokenizer)
    language_model = load(path) if has_tokenizer else None
    if language_model is None:
        checkpoint, model = open_model(path)
        ids = SpecialIds.of_manifest(run.read_manifest(), run.manifest_path)
    else:
        checkpoint, model = language_model.path, language_model.model
        ids = _special_ids(language_model)
    with atomic_folder(folder) as temporary:
        if language_model is not None:
            _write_tokenizer(language_model, run.tokenizer, temporary, ids)
        write_huggingface(model, temporary, ids)
        # Read back before the folder gets its name: a folder that is there has been checked.
        difference, n_tokens = compare_logits(model, import_huggingface(temporary))
        if not difference < 1e-3:
            raise UserError(
                f"The logits of the written model differ by up to {difference:.3g}. "
                "No folder was written.",
                where=folder,
            )
        n_template_ids = 0
        if language_model is not None and language_model.is_assistant:
            template = read_json(temporary / "tokenizer_config.json")["chat_template"]
            n_template_ids = check_chat_template(template, load_tokenizer(temporary))
        eos = read_special_ids(temporary).eos
    return ExportResult(
        folder=folder,
        checkpoint=checkpoint,
        model_class=read_json(folder / "config.json")["architectures"][0],
        n_parameters=sum(p.numel() for p in model.parameters()),
        n_bytes=sum(file.stat().st_size for file in folder.iterdir()),
        has_tokenizer=has_tokenizer,
        n_checked_tokens=n_tokens,
        max_logit_difference=difference,
        eos_token_ids=eos,
        n_checked_template_ids=n_template_ids,
    )


@torch.inference_mode()
def compare_logits(ours: GPT, other: GPT, *, seed: int = 0) -> tuple[float, int]:
    """Compare logits on random tokens; return the largest difference, and the number of tokens."""
    T = min(ours.config.context_length, 64)
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(ours.config.vocab_size, (2, T), generator=generator)
    difference = (ours.eval()(ids) - other.eval()(ids)).abs().max().item()
    return difference, ids.numel()


def _is_huggingface_schema(tokenizer: Path) -> bool:
    """Whether the tokenizers library can read it: word and character tokenizers it cannot."""
    about = read_json(tokenizer)
    return isinstance(about.get("model"), dict) and "added_tokens" in about


def _special_ids(language_model: LanguageModel) -> SpecialIds:
    """The ids to write: those of the source of an imported model, and the ends of answers."""
    ids = language_model.special_ids
    if not ids.config and not ids.generation:
        ids = one_end(language_model.tokenizer.special_tokens.get(END_OF_TEXT))
    if not language_model.is_assistant:
        return ids
    ends = {"eos_token_id": list(language_model.stop_ids)}
    return SpecialIds(config={**ids.config, **ends}, generation={**ids.generation, **ends})


def _write_tokenizer(
    language_model: LanguageModel, source: Path, folder: Path, ids: SpecialIds
) -> None:
    """Copy tokenizer.json, and write or copy tokenizer_config.json."""
    shutil.copyfile(source / "tokenizer.json", folder / "tokenizer.json")
    if not language_model.is_assistant:
        for name in KEPT_FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
    if (folder / "tokenizer_config.json").is_file():
        return
    about: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": language_model.model.config.context_length,
        "clean_up_tokenization_spaces": False,
    }
    names = {index: name for name, index in language_model.tokenizer.special_tokens.items()}
    entries = {**ids.config, **ids.generation}
    for token in ("bos", "eos", "pad"):
        found = [names[i] for i in as_ids(entries.get(f"{token}_token_id")) if i in names]
        if found:
            about[f"{token}_token"] = found[0]
    if language_model.is_assistant:
        about["chat_template"] = CHAT_TEMPLATE
    write_json(folder / "tokenizer_config.json", about)
