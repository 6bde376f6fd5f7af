"""Convert between a token store and the token files of nanoGPT, llm.c and Megatron."""

from dataclasses import dataclass
from pathlib import Path

from groundup.base.calling import takes_settings
from groundup.base.errors import UsageError, UserError
from groundup.base.free_name import free_file_name
from groundup.data.config import ConvertConfig
from groundup.data.interchange import read_tokens, write_tokens
from groundup.data.manifest import is_store
from groundup.data.megatron import megatron_files
from groundup.data.store import TokenStore
from groundup.data.token_blocks import file_size
from groundup.text.corpus import SIDES
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.special_names import end_of_text_id


@dataclass(frozen=True, kw_only=True)
class ConvertResult:
    """What was written."""

    files: list[Path]
    """The token files, or the folder of the token store."""
    n_tokens: int
    n_documents: int


@takes_settings(ConvertConfig, "source")
def convert(config: ConvertConfig) -> ConvertResult:
    """Write a token store as another project's token file, or such a file as a token store.

    Raises:
        UserError: Not exactly one of the two formats is a token store, the tokenizer is not given,
            the source cannot be read, the target format cannot hold it, or the target exists, is in
            the source, or contains it.
    """
    written = _files(config.out, config.to_format)
    _refuse_own_source(config, written)
    _refuse_taken(config, written)
    if config.from_format == "store" and config.to_format != "store":
        store = _open_source(config.source)
        files = write_tokens(store, config.out, config.to_format)
    elif config.from_format != "store" and config.to_format == "store":
        files = [config.out]
        store = _build_store(config)
    else:
        raise UsageError(
            f"The source has the format {config.from_format} and the format to write is "
            f"{config.to_format}. Exactly one of them must be a token store.",
            settings={"to_format": "nanogpt" if config.from_format == "store" else "store"},
        )
    return ConvertResult(files=files, n_tokens=store.n_tokens, n_documents=store.n_documents)


def _files(path: Path, format: str) -> list[Path]:
    return list(megatron_files(path)) if format == "megatron" else [path]


def _refuse_own_source(config: ConvertConfig, written: list[Path]) -> None:
    """Refuse to write over the source, into it, or over a folder that contains it."""
    for source in _files(config.source.resolve(), config.from_format):
        for path in written:
            place = path.resolve()
            if place.is_relative_to(source) or source.is_relative_to(place):
                raise UserError(
                    f"This is the source, {config.source}, or a place in it, or a folder that "
                    "contains it. Another place is expected.",
                    where=path,
                    settings={"out": free_file_name(source.parent / config.out.name)},
                )


def _refuse_taken(config: ConvertConfig, written: list[Path]) -> None:
    taken = next((path for path in written if path.exists()), None)
    if taken is not None and not config.overwrite:
        raise UserError(
            "There is something at this place already. Choose another name, or set overwrite to "
            "replace it.",
            where=taken,
            settings={"out": free_file_name(config.out)},
        )


def _open_source(source: Path) -> TokenStore:
    stores = [source / side for side in SIDES if is_store(source / side)]
    if stores and not is_store(source):
        raise UserError(
            "This is a data folder, not a token store. One of its stores is expected: "
            f"{' or '.join(map(str, stores))}.",
            where=source,
            settings={"source": str(stores[0])},
        )
    return TokenStore.open(source)


def _build_store(config: ConvertConfig) -> TokenStore:
    assert config.from_format != "store"
    n_bytes = file_size(config.source)
    if config.tokenizer is None:
        raise UserError(
            "The file does not contain its vocabulary. The folder of the tokenizer that made its "
            "ids is expected.",
            where=config.source,
            settings={"tokenizer": Path("data/tokenizer")},
        )
    tokenizer = load_tokenizer(config.tokenizer)
    end_of_text = end_of_text_id(tokenizer)
    return TokenStore.build(
        config.out,
        read_tokens(config.source, config.from_format, end_of_text, tokenizer.vocab_size),
        vocab_size=tokenizer.vocab_size,
        tokenizer_fingerprint=tokenizer.fingerprint,
        end_of_text=end_of_text,
        sources=[f"{config.source.name} bytes:{n_bytes}"],
    )
