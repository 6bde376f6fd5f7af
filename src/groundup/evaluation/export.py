"""Export a run for another project, and read it back to check that the model is the same.

An export says what the weights do not: the ids at which texts and answers end, and for an assistant
the chat template. They are compared with ours after writing, as the logits are.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from groundup.base.calling import takes_settings
from groundup.base.errors import UserError
from groundup.base.files import atomic_folder, atomic_path, read_json
from groundup.base.folder_kinds import find_run
from groundup.base.run import RunFolder
from groundup.evaluation.adapter_runs import export_adapter
from groundup.evaluation.export_gguf import (
    Agreement,
    agreement,
    export_gguf,
    is_own_gguf,
    tokenizer_keys,
)
from groundup.evaluation.export_tokenizer import (
    chat_template_of,
    exported_ids,
    is_huggingface_schema,
    write_tokenizer,
)
from groundup.evaluation.load import CLASSIFIER_MARK, LanguageModel, load, run_of
from groundup.model.gpt import GPT
from groundup.tokenizer.chat_template import CHAT_TEMPLATE, check_chat_template
from groundup.tokenizer.files import load_tokenizer
from groundup.weights.checkpoint_format import model_folders, open_model
from groundup.weights.config import ExportConfig
from groundup.weights.gguf import open_gguf
from groundup.weights.gguf_writer import gguf_family
from groundup.weights.huggingface import refuse_foreign_folder, write_huggingface
from groundup.weights.huggingface_folder import import_huggingface
from groundup.weights.nanogpt import open_nanogpt
from groundup.weights.nanogpt_writer import PRODUCER, check_nanogpt, write_nanogpt
from groundup.weights.sources import build_model
from groundup.weights.special_ids import SpecialIds, read_special_ids

_LARGEST_DIFFERENCE = 1e-3
"""Of logits of the same weights; the order of sums may differ."""


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What was written, and how the written model compares with the one that was exported."""

    folder: Path
    """The folder with the files that were written."""
    files: tuple[Path, ...]
    checkpoint: Path
    model_class: str
    """The class of transformers, the architecture of llama.cpp, or nanoGPT's GPT."""
    n_parameters: int
    n_bytes: int
    has_tokenizer: bool
    n_checked_tokens: int
    max_logit_difference: float
    eos_token_ids: tuple[int, ...] = ()
    """Ids at which a text ends."""
    n_checked_template_ids: int = 0
    """Number of ids of the chat template that were compared. 0: there is no template of ours."""
    agreement: Agreement | None = None
    """For weights that were rounded, how the predictions compare. None: they are exact."""
    notes: tuple[str, ...] = ()
    """Sentences on what the other program does otherwise."""


class _Opened:
    """The model to export, with its tokenizer where other programs can have one like it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run: RunFolder = run_of(path, model_folders(path)[0])
        if (self.run.path / CLASSIFIER_MARK).is_file():
            raise UserError(
                "This is a classifier. Only language models can be exported: the format has no "
                "place for the head of a classifier.",
                where=self.run.path,
            )
        has_tokenizer = is_huggingface_schema(self.run.tokenizer / "tokenizer.json")
        self.language_model: LanguageModel | None = load(path) if has_tokenizer else None
        if self.language_model is None:
            self.checkpoint, self.model = open_model(path)
        else:
            self.checkpoint, self.model = self.language_model.path, self.language_model.model

    @cached_property
    def ids(self) -> SpecialIds:
        if self.language_model is None:
            return SpecialIds.of_manifest(self.run.read_manifest(), self.run.manifest_path)
        return exported_ids(self.language_model)

    def result(self, files: list[Path], **more: Any) -> ExportResult:
        """Describe the export."""
        return ExportResult(
            folder=files[0].parent,
            files=tuple(sorted(files)),
            checkpoint=self.checkpoint,
            n_parameters=sum(p.numel() for p in self.model.parameters()),
            n_bytes=sum(file.stat().st_size for file in files),
            **more,
        )


@takes_settings(ExportConfig, "run")
def export(config: ExportConfig) -> ExportResult:
    """Write the model and its tokenizer in another format, read both back and compare them.

    Raises:
        UserError: There is no model, the other project does not compute it, the folder or file is
            taken, or what was read back differs.
    """
    if config.dtype != "float32" and config.to != "gguf":
        raise UserError(
            f"dtype is {config.dtype!r}, and the format {config.to!r} is written in float32. Only "
            "a GGUF file has other types.",
            settings={"to": "gguf"},
        )
    path = find_run(config.run)
    if config.to == "gguf":
        return _to_gguf(path, config)
    if config.to == "peft":
        return _to_peft(path, config)
    return _to_nanogpt(path, config) if config.to == "nanogpt" else _to_huggingface(path, config)


def _to_huggingface(path: Path, config: ExportConfig) -> ExportResult:
    run = run_of(path, model_folders(path)[0])
    folder = run.huggingface if config.out is None else config.out
    refuse_foreign_folder(folder)
    opened = _Opened(path)
    language_model = opened.language_model
    with atomic_folder(folder) as temporary:
        if language_model is not None:
            write_tokenizer(language_model, run.tokenizer, temporary, opened.ids)
        write_huggingface(opened.model, temporary, opened.ids)
        # Read back before the folder gets its name: a folder that is there has been checked.
        difference, n_tokens = _check_logits(opened.model, import_huggingface(temporary), folder)
        n_template_ids = 0
        if language_model is not None and language_model.is_assistant:
            template = chat_template_of(temporary, is_assistant=True)
            assert template is not None
            if template == CHAT_TEMPLATE:
                n_template_ids = check_chat_template(template, load_tokenizer(temporary))
        eos = read_special_ids(temporary).eos
    return opened.result(
        list(folder.iterdir()),
        model_class=read_json(folder / "config.json")["architectures"][0],
        has_tokenizer=language_model is not None,
        n_checked_tokens=n_tokens,
        max_logit_difference=difference,
        eos_token_ids=eos,
        n_checked_template_ids=n_template_ids,
    )


def _to_gguf(path: Path, config: ExportConfig) -> ExportResult:
    opened = _Opened(path)
    gguf_family(opened.model.config)  # before anything is written
    name = f"{opened.run.path.resolve().name}-{config.dtype}.gguf"
    out = _file(config.out, opened.run.gguf, name)
    if out.exists() and not is_own_gguf(out):
        raise _is_taken(out, ".gguf")
    stated = opened.run.read_manifest().get("license")
    general = {"name": opened.run.path.resolve().name}
    general |= {"license": stated} if isinstance(stated, str) else {}
    language_model = opened.language_model
    tokenizer = tokenizer_keys(language_model, opened.run.tokenizer)
    with atomic_path(out) as temporary:
        export_gguf(opened.model, temporary, config.dtype, general, language_model, tokenizer)
        back = open_gguf(temporary)
        model = build_model(back)
        if config.dtype == "float32":
            difference, n_tokens = _check_logits(opened.model, model, out)
        else:
            difference, n_tokens = compare_logits(opened.model, model)
    rounded = config.dtype != "float32"
    return opened.result(
        [out],
        model_class=back.family,
        has_tokenizer=language_model is not None,
        n_checked_tokens=n_tokens,
        max_logit_difference=difference,
        eos_token_ids=back.special_ids.eos,
        agreement=agreement(opened.model, model, language_model) if rounded else None,
        notes=tokenizer.notes,
    )


def _to_nanogpt(path: Path, config: ExportConfig) -> ExportResult:
    opened = _Opened(path)
    check_nanogpt(opened.model.config)
    out = _file(config.out, opened.run.nanogpt, "ckpt.pt")
    if out.exists() and not _is_own_checkpoint(out):
        raise _is_taken(out, out.suffix)
    step = opened.checkpoint.name.removeprefix("step-")
    with atomic_path(out) as temporary:
        write_nanogpt(opened.model, temporary, step=int(step) if step.isdecimal() else 0)
        back = build_model(open_nanogpt(temporary))
        difference, n_tokens = _check_logits(opened.model, back, out)
    return opened.result(
        [out],
        model_class="GPT",
        has_tokenizer=False,
        n_checked_tokens=n_tokens,
        max_logit_difference=difference,
        notes=("A nanoGPT checkpoint has no tokenizer, and this one no state of an optimizer.",),
    )


def _to_peft(path: Path, config: ExportConfig) -> ExportResult:
    opened = _Opened(path)
    written = export_adapter(opened.run, config.out, opened.model)
    return replace(
        opened.result(
            list(written.folder.iterdir()),
            model_class="LoRA adapter",
            has_tokenizer=False,
            n_checked_tokens=written.n_checked_tokens,
            max_logit_difference=written.max_logit_difference,
            notes=written.notes,
        ),
        n_parameters=written.n_parameters,
    )


def _file(out: Path | None, folder: Path, name: str) -> Path:
    """The file to write: as named, in the folder that is named, or at the place by default."""
    if out is None:
        return folder / name
    return out / name if out.is_dir() else out


def _is_taken(out: Path, suffix: str) -> UserError:
    return UserError(
        "This is a file that groundup did not export. A new name, or an earlier export, is "
        "expected.",
        where=out,
        settings={"out": str(out.with_name(f"{out.stem}-2{suffix}"))},
    )


def _is_own_checkpoint(path: Path) -> bool:
    try:
        found = torch.load(path, map_location="meta", weights_only=True)
    except Exception:  # any file that is no checkpoint
        return False
    return isinstance(found, dict) and found.get("producer") == PRODUCER


def _check_logits(ours: GPT, other: GPT, where: Path) -> tuple[float, int]:
    """Compare logits as `compare_logits` does.

    Raises:
        UserError: They differ.
    """
    difference, n_tokens = compare_logits(ours, other)
    if not difference < _LARGEST_DIFFERENCE:
        raise UserError(
            f"The logits of the written model differ by up to {difference:.3g}. Nothing was "
            "written.",
            where=where,
        )
    return difference, n_tokens


@torch.inference_mode()
def compare_logits(ours: GPT, other: GPT, *, seed: int = 0) -> tuple[float, int]:
    """Compare logits on random tokens; return the largest difference, and the number of tokens."""
    T = min(ours.config.context_length, 64)
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(ours.config.vocab_size, (2, T), generator=generator)
    difference = (ours.eval()(ids) - other.eval()(ids)).abs().max().item()
    return difference, ids.numel()
