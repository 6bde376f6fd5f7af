"""Import pretrained weights: a folder, file or model of the hub becomes a run folder.

The weights are read, checked and written one tensor at a time, so that memory does not follow the
size of the model. The run is written under a temporary name and gets its name when it is complete.
"""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from groundup.base.calling import takes_settings
from groundup.base.checkpoints import step_name
from groundup.base.errors import UserError, quoted
from groundup.base.files import atomic_folder, read_json, sha256_file, write_json, write_text
from groundup.base.gguf import GGUFHeader, is_gguf, read_gguf_header
from groundup.base.machine import free_disk_bytes
from groundup.base.run import RunFolder
from groundup.base.writable import writable_place
from groundup.evaluation.adapter_runs import import_adapter
from groundup.evaluation.load import ASSISTANT_MARK, LanguageModel, chat_parts, check_vocabulary
from groundup.evaluation.merged import MergeReport
from groundup.model.count import count_parameters
from groundup.model.gpt import GPT
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.chat_template import CHAT_TEMPLATE, read_chat_template
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.gguf import tokenizer_config, tokenizer_of_gguf
from groundup.tokenizer.protocol import Tokenizer
from groundup.weights.adapter import is_adapter
from groundup.weights.config import ImportConfig
from groundup.weights.find_source import find_source, open_source, short_name
from groundup.weights.pretrained import Pretrained
from groundup.weights.special_ids import warn_of_absent_ids
from groundup.weights.write_checkpoint import write_checkpoint

KEPT_FILES = ("tokenizer_config.json", "chat_template.jinja")
"""Files that an export of an imported run writes again."""
_TOKENIZER_FILES = (
    ("tokenizer.json",), ("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")
)  # fmt: skip
"""Forms of a tokenizer: the files that each consists of."""


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """What was read, and the run folder that was created."""

    run: Path
    model_type: str
    """The architecture, as its files name it: gpt2, llama, mistral, qwen2, qwen3, nanogpt."""
    n_parameters: int
    context_length: int
    source: Path
    """The folder or file that was read."""
    license: str | None
    """The license that the source states. None: it states none."""
    has_tokenizer: bool
    vocab_size: int
    """Number of tokens of the tokenizer; without one, of the model."""
    stop_ids: tuple[int, ...] = ()
    """The ids that end a text."""
    is_assistant: bool = False
    """Whether it is an assistant that was fine-tuned here and exported."""
    has_chat_template: bool = False
    """Whether it states how a conversation is written."""
    n_unused_rows: int = 0
    """Rows of the embedding without a token: they are never generated."""
    merge: MergeReport | None = None
    """How the merged model compares with base and adapter. None: the source is no adapter."""


@takes_settings(ImportConfig, "source")
def import_pretrained(config: ImportConfig) -> ImportResult:
    """Read pretrained weights and write them as checkpoint step-000000 of a new run folder.

    Raises:
        UserError: The source holds no supported model, its weights are damaged or do not fit its
            config, its tokenizer cannot be read or has more tokens than the model has embeddings,
            or `out` cannot be written to. Nothing is left.
    """
    source = find_source(config.source, config.revision)
    if source.is_dir() and is_adapter(source):
        return _import_adapter(config, source)
    if config.base is not None:
        raise UserError(
            "A base is given, and this is not a LoRA adapter. A folder with adapter_config.json "
            "is expected, or no base.",
            where=source,
        )
    pretrained = open_source(source)
    header = read_gguf_header(source) if is_gguf(source) else None
    tokenizer = _read_tokenizer(source, pretrained, header) if config.tokenizer else None
    V = pretrained.config.vocab_size
    n_ids = V if tokenizer is None else tokenizer.vocab_size
    warn_of_absent_ids(pretrained.special_ids, n_ids)
    out = config.out if config.out is not None else Path("runs") / short_name(config.source)
    _check_space(out, pretrained)
    run = RunFolder.create(out)
    try:
        with atomic_folder(run.path) as temporary:
            written = RunFolder(temporary)
            write_checkpoint(pretrained, written.checkpoints_path / step_name(0), header=header)
            write_text(written.checkpoints_path / "latest", f"{step_name(0)}\n")
            if tokenizer is not None:
                _write_tokenizer(written.tokenizer, source, tokenizer, header)
            has_template = read_chat_template(written.tokenizer) is not None
            is_assistant = _is_assistant(written.tokenizer / KEPT_FILES[0])
            if is_assistant:
                write_json(temporary / ASSISTANT_MARK, {"source": str(source)})
            _describe(written, run.path, config, source, pretrained, is_chat=has_template)
            stop_ids = _stop_ids(temporary, pretrained, tokenizer, is_assistant=is_assistant)
    except BaseException:
        with suppress(OSError):
            run.path.rmdir()
        raise
    return ImportResult(
        run=run.path,
        model_type=pretrained.family,
        n_parameters=count_parameters(pretrained.config),
        context_length=pretrained.config.context_length,
        source=source,
        license=pretrained.license,
        has_tokenizer=tokenizer is not None,
        vocab_size=n_ids,
        stop_ids=stop_ids,
        is_assistant=is_assistant,
        has_chat_template=has_template,
        n_unused_rows=V - n_ids,
    )


def _import_adapter(config: ImportConfig, source: Path) -> ImportResult:
    out = config.out if config.out is not None else Path("runs") / short_name(config.source)
    run, language_model, report = import_adapter(source, config.base, out)
    model, tokenizer = language_model.model, language_model.tokenizer
    return ImportResult(
        run=run.path,
        model_type="LoRA adapter, merged",
        n_parameters=sum(p.numel() for p in model.parameters()) - report.n_adapter_parameters,
        context_length=model.config.context_length,
        source=source,
        license=None,
        has_tokenizer=True,
        vocab_size=tokenizer.vocab_size,
        stop_ids=language_model.stop_ids,
        is_assistant=language_model.is_assistant,
        has_chat_template=language_model.chat_template is not None,
        n_unused_rows=model.config.vocab_size - tokenizer.vocab_size,
        merge=report,
    )


def _check_space(out: Path, pretrained: Pretrained) -> None:
    """Check that the weights fit on the disk, before anything is written."""
    n_source = sum(file.stat().st_size for file in pretrained.files)
    # A checkpoint of nanoGPT holds the state of the optimizer, too.
    n_bytes = min(n_source, 4 * count_parameters(pretrained.config))
    n_free = free_disk_bytes(out)
    if n_free < 1.05 * n_bytes:
        raise UserError(
            f"The weights take {n_bytes / 1e6:,.1f} MB, and the disk has {n_free / 1e6:,.1f} MB "
            "free. A location with more free space is expected.",
            where=out,
            settings={"out": str(writable_place(out))},
        )


def _tokenizer_files(folder: Path) -> list[Path]:
    """List the files of the tokenizer in a folder, in the first form that is complete."""
    for names in _TOKENIZER_FILES:
        files = [folder / name for name in names]
        if all(file.is_file() for file in files):
            return files
    return sorted(folder.glob("*.tiktoken"))[:1]


def _read_tokenizer(
    source: Path, pretrained: Pretrained, header: GGUFHeader | None
) -> Tokenizer | None:
    """Load the tokenizer that is in a GGUF file, in the folder, or beside a checkpoint.

    Raises:
        UserError: It cannot be read, or has more tokens than the model has embeddings.
    """
    try:
        return _read_tokenizer_of(source, pretrained, header)
    except UserError as error:
        hint = {} if error.settings or error.command else {"tokenizer": False}
        raise UserError(
            error.message,
            where=error.where,
            command=error.command,
            settings=error.settings or hint,
        ) from error


def _read_tokenizer_of(
    source: Path, pretrained: Pretrained, header: GGUFHeader | None
) -> Tokenizer | None:
    if header is not None:
        if header.metadata.get("tokenizer.ggml.model", "none") == "none":
            return None
        tokenizer = tokenizer_of_gguf(header.metadata, source)
        check_vocabulary(pretrained.config, tokenizer, where=source)
        return tokenizer
    folder = source if source.is_dir() else source.parent
    files = _tokenizer_files(folder)
    if not files:
        return None
    tokenizer = load_tokenizer(folder)
    V = pretrained.config.vocab_size
    has_ranks = files[0].suffix == ".tiktoken"
    if has_ranks and isinstance(tokenizer, BPETokenizer) and tokenizer.vocab_size > V:
        # Such a file has no special tokens. Of those that are added, the model knows the first.
        known = {name: index for name, index in tokenizer.special_tokens.items() if index < V}
        tokenizer = BPETokenizer(
            tokenizer.merges,
            pattern=tokenizer.pattern,
            special_tokens=known,
            token_table=tokenizer.token_table[:V],
        )
    check_vocabulary(pretrained.config, tokenizer, where=folder)
    return tokenizer


def _write_tokenizer(
    folder: Path, source: Path, tokenizer: Tokenizer, header: GGUFHeader | None
) -> None:
    if (source / "tokenizer.json").is_file():
        # As it is: other libraries may read entries of it that ours does not keep.
        folder.mkdir()
        shutil.copyfile(source / "tokenizer.json", folder / "tokenizer.json")
    else:
        tokenizer.save(folder)
    for kept in KEPT_FILES:
        if (source / kept).is_file():
            shutil.copyfile(source / kept, folder / kept)
    if header is not None and not (folder / KEPT_FILES[0]).is_file():
        write_json(folder / KEPT_FILES[0], tokenizer_config(header.metadata, source))
    template = read_chat_template(folder)
    if template is not None:
        template.check()


def _is_assistant(tokenizer_config: Path) -> bool:
    """Whether the chat template is the one of `instruct`."""
    about = read_json(tokenizer_config) if tokenizer_config.is_file() else {}
    return isinstance(about, dict) and about.get("chat_template") == CHAT_TEMPLATE


def _describe(
    run: RunFolder,
    name: Path,
    config: ImportConfig,
    source: Path,
    pretrained: Pretrained,
    *,
    is_chat: bool,
) -> None:
    """Write the manifest, with the hashes of all files that were read, and the README."""
    files = list(pretrained.files)
    folder = source if source.is_dir() else source.parent
    if not is_gguf(source):
        files += _tokenizer_files(folder)
        kept = (*KEPT_FILES, "generation_config.json")
        files += [source / each for each in kept if (source / each).is_file()]
    n_parameters = count_parameters(pretrained.config)
    run.write_manifest(
        {
            "job": "import",
            "source": str(config.source),
            "source_path": str(source.absolute()),
            "revision": config.revision,
            "model_type": pretrained.family,
            "license": pretrained.license,
            "source_sha256": {file.name: sha256_file(file) for file in dict.fromkeys(files)},
            "n_parameters": n_parameters,
            **pretrained.special_ids.to_manifest(),
        }
    )
    command = "chat" if is_chat else "generate"
    run.write_readme(
        f"# Imported model of type {pretrained.family}\n\n{n_parameters:,} parameters from "
        f"`{source.name}`, context {pretrained.config.context_length} tokens. License: "
        f"{pretrained.license or 'not stated'}.\n\nThe SHA-256 of every source file is in "
        f"manifest.json, and that of every tensor in "
        f"checkpoints/{step_name(0)}/tensors.json.\n\nNext: `groundup {command} {quoted(name)}`\n"
    )


def _stop_ids(
    run: Path, pretrained: Pretrained, tokenizer: Tokenizer | None, *, is_assistant: bool
) -> tuple[int, ...]:
    """Open the tokenizer that was written, and return the ids that end a text."""
    if tokenizer is None:
        return ()
    written = load_tokenizer(run / "tokenizer")
    if written.fingerprint != tokenizer.fingerprint:
        raise UserError("The tokenizer that was written is not the one that was read.")
    return LanguageModel(
        model=GPT(pretrained.config, initialize=False),
        tokenizer=written,
        path=run,
        special_ids=pretrained.special_ids,
        is_assistant=is_assistant,
        **chat_parts(run / "tokenizer", written, is_assistant=is_assistant),
    ).stop_ids
