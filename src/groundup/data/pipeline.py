"""Several steps of the pipeline in one call: the commands `prepare` and `train-tokenizer`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from groundup.base.calling import takes_settings
from groundup.base.errors import UserError, quoted
from groundup.base.files import read_json
from groundup.base.free_name import free_name
from groundup.base.undo import undo_interrupted
from groundup.data.config import EncodeConfig, PrepareAndEncodeConfig, TrainAndEncodeConfig
from groundup.data.encode import encode, parts_kept_if_useful
from groundup.data.manifest import is_store
from groundup.text.corpus import SIDES, prepare_command, read_sizes, recorded_sources
from groundup.text.prepare import PrepareResult, Progress, prepare
from groundup.text.stores import (
    check_stores,
    encode_elsewhere,
    is_encoded_with,
    store_manifest,
)
from groundup.text.taken import changing
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.replacing import check_tokenizer
from groundup.tokenizer.special_names import end_of_text_id
from groundup.tokenizer.train import TrainTokenizerResult, train_tokenizer


@dataclass(frozen=True, kw_only=True)
class PrepareAndEncodeResult(PrepareResult):
    """What was prepared, and the number of tokens if it was encoded."""

    n_tokens: dict[str, int] | None
    """Number of tokens of each side; None if the corpus was not encoded."""


@dataclass(frozen=True, kw_only=True)
class TrainAndEncodeResult(TrainTokenizerResult):
    """The tokenizer that was trained, and the number of tokens it makes of the corpus."""

    n_tokens: dict[str, int]
    """Number of tokens of each side."""


@takes_settings(PrepareAndEncodeConfig, "sources")
def prepare_and_encode(
    config: PrepareAndEncodeConfig, on_progress: Progress | None = None
) -> PrepareAndEncodeResult:
    """Prepare a corpus; encode it if a tokenizer is given, or if token stores are appended to.

    An error leaves a data folder as it was.

    Raises:
        UserError: A source or the tokenizer cannot be read, or the text is too short.
    """
    data = config.out
    undo_interrupted(data)
    encodes = config.append and any(is_store(data / side) for side in SIDES)
    if config.tokenizer is not None:  # refuse a wrong folder before reading any text
        tokenizer = load_tokenizer(config.tokenizer)
        check_tokenizer(data, tokenizer, config.tokenizer, overwrite=config.overwrite)
        encodes = True
    elif encodes:
        _refuse_other_tokenizer(data, load_tokenizer(data / "tokenizer"))
    is_append = config.append and (data / "corpus").is_dir()
    with changing(data, always=is_append), parts_kept_if_useful(data, keep=not is_append):
        prepared = prepare(config, on_progress)
        n_tokens = None
        if encodes:
            encode_config = EncodeConfig(
                data=data,
                tokenizer=config.tokenizer,
                engine=config.engine,
                overwrite=config.overwrite,
            )
            try:
                n_tokens = encode(encode_config, _encode_stage(on_progress)).n_tokens
            except UserError as error:
                if is_append and error.command.startswith("groundup train-tokenizer"):
                    raise _other_tokenizer_needed(data, error) from error
                raise
    return PrepareAndEncodeResult(**vars(prepared), n_tokens=n_tokens)


@takes_settings(TrainAndEncodeConfig, "data")
def train_and_encode(
    config: TrainAndEncodeConfig, on_progress: Progress | None = None
) -> TrainAndEncodeResult:
    """Train a tokenizer on a corpus and encode the corpus with it.

    An error leaves a tokenizer and token stores as they were.

    Raises:
        UserError: There is no corpus, the vocabulary is too small, or there is another tokenizer.
    """
    data, overwrite = config.data, config.overwrite
    undo_interrupted(data)
    check_stores(data, read_sizes(data / "corpus"), None, overwrite=overwrite)
    with changing(data, names=("tokenizer", *SIDES)), parts_kept_if_useful(data):
        trained = train_tokenizer(config)
        encode_config = EncodeConfig(data=data, engine=config.engine, overwrite=overwrite)
        n_tokens = encode(encode_config, _encode_stage(on_progress)).n_tokens
    return TrainAndEncodeResult(**vars(trained), n_tokens=n_tokens)


def _refuse_other_tokenizer(data: Path, tokenizer: Tokenizer) -> None:
    """Append only with the tokenizer of the token stores: an append never replaces them."""
    end = end_of_text_id(tokenizer)
    for side in SIDES:
        manifest = store_manifest(data / side)
        if manifest and not is_encoded_with(manifest, tokenizer.fingerprint, end):
            raise UserError(
                "The tokenizer of this data folder is not the one that made its token stores, so "
                "nothing was appended. Encode the corpus in another data folder, and append there.",
                where=data / side,
                command=encode_elsewhere(data),
            )


def _other_tokenizer_needed(data: Path, error: UserError) -> UserError:
    """The error for text that the tokenizer of the stores cannot encode; it is not appended."""
    goal, manifest = free_name(data), read_json(data / "corpus" / "manifest.json")
    prepares = "" if "-" in recorded_sources(manifest) else prepare_command(goal, manifest)
    command = f"{prepares} && groundup train-tokenizer {quoted(goal)}" if prepares else ""
    message = f"Nothing was appended. {error.message}"
    return UserError(message, where=error.where, command=command)


def _encode_stage(on_progress: Progress | None) -> Callable[[int, int], None] | None:
    if on_progress is None:
        return None
    return lambda done, total: on_progress("encode", done, total)
