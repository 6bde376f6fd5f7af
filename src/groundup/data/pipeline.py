"""Several steps of the pipeline in one call: the commands `prepare` and `train-tokenizer`."""

from collections.abc import Callable
from dataclasses import dataclass

from groundup.base.calling import takes_settings
from groundup.data.config import EncodeConfig, PrepareAndEncodeConfig, TrainAndEncodeConfig
from groundup.data.encode import encode
from groundup.data.manifest import is_store
from groundup.text.corpus import SIDES
from groundup.text.prepare import PrepareResult, Progress, prepare
from groundup.tokenizer.files import load_tokenizer
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

    Raises:
        UserError: A source or the tokenizer cannot be read, or the text is too short.
    """
    tokenizer = config.tokenizer
    if tokenizer is None and config.append and any(is_store(config.out / s) for s in SIDES):
        tokenizer = config.out / "tokenizer"
    if tokenizer is not None:
        load_tokenizer(tokenizer)  # refuse a wrong folder before reading any text
    prepared = prepare(config, on_progress)
    n_tokens = None
    if tokenizer is not None:
        encode_config = EncodeConfig(data=config.out, tokenizer=tokenizer, engine=config.engine)
        n_tokens = encode(encode_config, _encode_stage(on_progress)).n_tokens
    return PrepareAndEncodeResult(**vars(prepared), n_tokens=n_tokens)


@takes_settings(TrainAndEncodeConfig, "data")
def train_and_encode(
    config: TrainAndEncodeConfig, on_progress: Progress | None = None
) -> TrainAndEncodeResult:
    """Train a tokenizer on a corpus and encode the corpus with it.

    Raises:
        UserError: There is no corpus, or the vocabulary is too small.
    """
    trained = train_tokenizer(config)
    encode_config = EncodeConfig(data=config.data, engine=config.engine)
    n_tokens = encode(encode_config, _encode_stage(on_progress)).n_tokens
    return TrainAndEncodeResult(**vars(trained), n_tokens=n_tokens)


def _encode_stage(on_progress: Progress | None) -> Callable[[int, int], None] | None:
    if on_progress is None:
        return None
    return lambda done, total: on_progress("encode", done, total)
