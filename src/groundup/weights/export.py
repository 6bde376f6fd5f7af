"""Export a run as a Hugging Face folder, and read it back to check that the model is the same."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from groundup.base.calling import takes_settings
from groundup.base.errors import UserError
from groundup.base.files import atomic_folder, read_json, write_json
from groundup.base.folder_kinds import find_run
from groundup.base.run import RunFolder
from groundup.model.gpt import GPT
from groundup.weights.checkpoint_format import open_model
from groundup.weights.config import ExportConfig
from groundup.weights.huggingface import (
    import_huggingface,
    refuse_foreign_folder,
    write_huggingface,
)

# This package does not depend on `tokenizer`: the name is looked up in tokenizer.json.
END_OF_TEXT = "<|endoftext|>"


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


@takes_settings(ExportConfig, "run")
def export(config: ExportConfig) -> ExportResult:
    """Write the model and its tokenizer as a folder, read the model back and compare its logits.

    Raises:
        UserError: There is no model, no class of transformers computes it, the folder is taken, or
            the model that was read back differs.
    """
    path = find_run(config.run)
    run = RunFolder.of(path)
    checkpoint, model = open_model(path)
    model.eval()
    folder = run.huggingface if config.out is None else config.out
    refuse_foreign_folder(folder)
    tokenizer = run.tokenizer / "tokenizer.json"
    has_tokenizer = tokenizer.is_file() and _is_huggingface_schema(tokenizer)
    with atomic_folder(folder) as temporary:
        end_of_text_id = None
        if has_tokenizer:
            end_of_text_id = _write_tokenizer(tokenizer, temporary, model.config.context_length)
        write_huggingface(model, temporary, end_of_text_id=end_of_text_id)
        # Read back before the folder gets its name: a folder that is there has been checked.
        difference, n_tokens = compare_logits(model, import_huggingface(temporary))
        if not difference < 1e-3:
            raise UserError(
                f"The logits of the written model differ by up to {difference:.3g}. "
                "No folder was written.",
                where=folder,
            )
    return ExportResult(
        folder=folder,
        checkpoint=checkpoint,
        model_class=read_json(folder / "config.json")["architectures"][0],
        n_parameters=sum(p.numel() for p in model.parameters()),
        n_bytes=sum(file.stat().st_size for file in folder.iterdir()),
        has_tokenizer=has_tokenizer,
        n_checked_tokens=n_tokens,
        max_logit_difference=difference,
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


def _write_tokenizer(tokenizer: Path, folder: Path, context_length: int) -> int | None:
    """Copy tokenizer.json, write tokenizer_config.json, and return the end-of-text id."""
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    about: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context_length,
        "clean_up_tokenization_spaces": False,
    }
    ids = {t["content"]: int(t["id"]) for t in read_json(tokenizer)["added_tokens"]}
    if END_OF_TEXT in ids:
        about |= {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "pad_token": END_OF_TEXT}
    write_json(folder / "tokenizer_config.json", about)
    return ids.get(END_OF_TEXT)
