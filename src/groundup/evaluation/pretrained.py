"""Import pretrained weights: a Hugging Face folder becomes a run folder.

The run is written under a temporary name and opened there as every other command will open it.
Only then it gets its name, so a run that is there can be used.
"""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from groundup.base.calling import takes_settings
from groundup.base.checkpoints import step_name
from groundup.base.errors import UserError, quoted
from groundup.base.files import atomic_folder, read_json, write_json, write_text
from groundup.base.run import RunFolder
from groundup.evaluation.load import ASSISTANT_MARK, check_vocabulary, load
from groundup.model.gpt import GPT
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.chat_template import CHAT_TEMPLATE
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.protocol import Tokenizer
from groundup.weights.checkpoint_format import open_model, save_model
from groundup.weights.config import ImportConfig
from groundup.weights.huggingface_folder import import_huggingface
from groundup.weights.special_ids import SpecialIds, read_special_ids, warn_of_absent_ids

KEPT_FILES = ("tokenizer_config.json", "chat_template.jinja")
"""Files that an export of an imported run writes again."""
_TEST_TEXT = "Every effort moves you"


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """What was read, and the run folder that was created."""

    run: Path
    model_type: str
    n_parameters: int
    context_length: int
    has_tokenizer: bool
    stop_ids: tuple[int, ...] = ()
    """The ids that end a text."""
    is_assistant: bool = False
    """Whether it is an assistant that was fine-tuned here and exported."""
    n_unused_rows: int = 0
    """Rows of the embedding without a token: they are never generated."""


@takes_settings(ImportConfig, "source")
def import_pretrained(config: ImportConfig) -> ImportResult:
    """Read pretrained weights and write them as checkpoint step-000000 of a new run folder.

    Raises:
        UserError: The folder holds no supported model, its tokenizer cannot be read or has more
            tokens than the model has embeddings, or `out` cannot be written to. Nothing is left.
    """
    source = config.source
    model = import_huggingface(source)
    ids = read_special_ids(source)
    tokenizer = _read_tokenizer(source, model)
    n_ids = model.config.vocab_size if tokenizer is None else tokenizer.vocab_size
    warn_of_absent_ids(ids, n_ids)
    run = RunFolder.create(config.out)
    try:
        with atomic_folder(run.path) as temporary:
            _write(RunFolder(temporary), run.path, source, model, tokenizer, ids)
            stop_ids = _open(temporary, tokenizer)
    except BaseException:
        with suppress(OSError):
            run.path.rmdir()
        raise
    return ImportResult(
        run=run.path,
        model_type=_kind(model),
        n_parameters=sum(p.numel() for p in model.parameters()),
        context_length=model.config.context_length,
        has_tokenizer=tokenizer is not None,
        stop_ids=stop_ids,
        is_assistant=(run.path / ASSISTANT_MARK).is_file(),
        n_unused_rows=model.config.vocab_size - n_ids,
    )


def _read_tokenizer(source: Path, model: GPT) -> Tokenizer | None:
    """Load the tokenizer that is in the folder, in any of the formats of `load_tokenizer`."""
    pairs = (("tokenizer.json",), ("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
    is_there = any(all((source / name).is_file() for name in pair) for pair in pairs)
    has_ranks = not is_there and any(source.glob("*.tiktoken"))
    if not is_there and not has_ranks:
        return None
    tokenizer = load_tokenizer(source)
    V = model.config.vocab_size
    if has_ranks and isinstance(tokenizer, BPETokenizer) and tokenizer.vocab_size > V:
        # Such a file has no special tokens. Of those that are added, the model knows the first.
        known = {name: index for name, index in tokenizer.special_tokens.items() if index < V}
        tokenizer = BPETokenizer(
            tokenizer.merges,
            pattern=tokenizer.pattern,
            special_tokens=known,
            token_table=tokenizer.token_table[:V],
        )
    check_vocabulary(model, tokenizer, where=source)
    return tokenizer


def _write(
    run: RunFolder,
    name: Path,
    source: Path,
    model: GPT,
    tokenizer: Tokenizer | None,
    ids: SpecialIds,
) -> None:
    save_model(model, run.checkpoints_path / step_name(0))
    write_text(run.checkpoints_path / "latest", f"{step_name(0)}\n")
    if tokenizer is not None and (source / "tokenizer.json").is_file():
        # As it is: other libraries may read entries of it that ours does not keep.
        run.tokenizer.mkdir()
        shutil.copyfile(source / "tokenizer.json", run.tokenizer / "tokenizer.json")
    elif tokenizer is not None:
        tokenizer.save(run.tokenizer)
    if tokenizer is not None:
        for kept in KEPT_FILES:
            if (source / kept).is_file():
                shutil.copyfile(source / kept, run.tokenizer / kept)
    if _is_assistant(run.tokenizer / KEPT_FILES[0]):
        write_json(run.path / ASSISTANT_MARK, {"source": str(source)})
    n_parameters = sum(p.numel() for p in model.parameters())
    run.write_manifest(
        {
            "job": "import",
            "source": str(source),
            "n_parameters": n_parameters,
            **ids.to_manifest(),
        }
    )
    run.write_readme(
        f"# Imported model of type {_kind(model)}\n\n{n_parameters:,} parameters from "
        f"`{source.name}`, context {model.config.context_length} tokens.\n\n"
        f"Next: `groundup generate {quoted(name)}`\n"
    )


def _is_assistant(tokenizer_config: Path) -> bool:
    """Whether the chat template is the one of `instruct`."""
    about = read_json(tokenizer_config) if tokenizer_config.is_file() else {}
    return isinstance(about, dict) and about.get("chat_template") == CHAT_TEMPLATE


def _open(run: Path, tokenizer: Tokenizer | None) -> tuple[int, ...]:
    """Open what was written, encode a text and compute one forward pass; return the stop ids."""
    ids = [0]
    stop_ids: tuple[int, ...] = ()
    if tokenizer is None:
        model = open_model(run)[1]
    else:
        language_model = load(run)
        model, stop_ids = language_model.model, language_model.stop_ids
        if language_model.tokenizer.fingerprint != tokenizer.fingerprint:
            raise UserError("The tokenizer that was written is not the one that was read.")
        ids = language_model.tokenizer.encode(_TEST_TEXT)[: model.config.context_length] or [0]
    with torch.inference_mode():
        logits = model.eval()(torch.tensor([ids]))
    if not bool(logits.isfinite().all()):
        raise UserError(
            "The model computes NaN or infinite logits, so its weights are damaged. An intact copy "
            "of the weights is expected."
        )
    return stop_ids


def _kind(model: GPT) -> str:
    return "gpt2" if model.config.norm == "layer" else "qwen3" if model.config.qk_norm else "llama"
