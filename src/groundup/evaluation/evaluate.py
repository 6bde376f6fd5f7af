"""Evaluate a run: its validation loss, beside two baselines on the same bytes."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass

from groundup.base.calling import takes_settings
from groundup.base.device import choose_device
from groundup.base.errors import UsageError, UserError
from groundup.base.folder_kinds import find_run
from groundup.base.results import record_if_possible
from groundup.base.run import RunFolder
from groundup.data.store import TokenStore
from groundup.data.token_blocks import blocks
from groundup.data.windows import Documents
from groundup.evaluation.config import EvaluateConfig
from groundup.evaluation.decoders import form_of
from groundup.evaluation.load import LanguageModel, load
from groundup.evaluation.loss import evaluate_loss, target_bytes
from groundup.evaluation.ngram_baseline import ByteNgrams
from groundup.evaluation.quantization import QuantizationCost, reduced_form_cost
from groundup.evaluation.run_data import data_of, documents_of, open_side, pretraining_of
from groundup.evaluation.xz_baseline import WINDOW_BYTES, xz_bits_per_byte
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.words import UNKNOWN

_log = logging.getLogger(__name__)
N_CONTEXT_BYTES = 3
_TRAIN_WINDOWS, _TRAIN_TOKENS = 64, 2**15
"""Enough training windows, and tokens, to estimate the gap to the validation loss."""


@dataclass(frozen=True, kw_only=True)
class EvaluateResult:
    """The loss of the model, and what the baselines reach on the same bytes."""

    checkpoint: str
    nats: float
    perplexity: float
    bits_per_byte: float
    n_targets: int
    n_bytes: int
    train_nats: float
    ngram_bits_per_byte: float
    xz_bits_per_byte: float
    xz_alone_bits_per_byte: float
    reduced: QuantizationCost | None = None
    """What a reduced form of the weights costs. None: it was not asked for."""
    worst_passage: str = ""
    """The passage that the reduced form predicts most differently."""
    documents: Documents = "stream"
    """How the windows held documents. Where they are separate, the first token of a document is
    not predicted, and its bytes are left out for the baselines, too."""
    data: str = ""
    """The data folder of the validation set."""
    other_data: tuple[str, ...] = ()
    """The other data folders of a run that was trained on a mixture."""
    is_standard: bool = True
    """Whether this is the result of the run, on its own data and with its own windows. Other data,
    windows or a checkpoint that is not the best one give results that are not recorded."""

    @property
    def lost_to(self) -> tuple[str, ...]:
        """The baselines that predict these bytes better than the model."""
        baselines = {
            f"the order-{N_CONTEXT_BYTES} n-gram": self.ngram_bits_per_byte,
            "xz": self.xz_bits_per_byte,
        }
        return tuple(name for name, bits in baselines.items() if bits <= self.bits_per_byte)


@takes_settings(EvaluateConfig, "run")
def evaluate(config: EvaluateConfig) -> EvaluateResult:
    """Measure a run and write RUN/evaluation/loss.json, if it can be written.

    It is not written for other data, windows or checkpoints than those of the run.

    Raises:
        UserError: There is no model, no validation set, or the data is of another tokenizer.
    """
    if config.tasks.task is not None:
        raise UsageError("A task is given. Call evaluate_task, which answers its items.")
    path = find_run(config.run)
    run = RunFolder.of(path)
    language_model = load(path)
    tokenizer = language_model.tokenizer
    model = language_model.model.to(choose_device(config.device))
    data = data_of(run) if config.data is None else config.data
    documents = documents_of(run) if config.documents is None else config.documents
    stores = {name: open_side(data, name, tokenizer, run) for name in ("train", "validation")}
    T = _context_length(config.context_length, model.config.context_length)
    loss = evaluate_loss(
        model,
        stores["validation"],
        context_length=T,
        batch_size=config.batch_size,
        stride=config.stride,
        documents=documents,
        tokenizer=tokenizer,
    )
    train_loss = evaluate_loss(
        model,
        stores["train"],
        context_length=T,
        batch_size=config.batch_size,
        stride=config.stride,
        documents=documents,
        max_windows=_n_train_windows(T, config.stride),
    )
    validation_bytes = b"".join(target_bytes(stores["validation"], tokenizer, documents=documents))
    assert loss.n_bytes == len(validation_bytes), "model and baselines must see the same bytes"
    if loss.bits_per_byte is None:
        raise UserError("The validation set has no bytes. Some text is expected.", where=data)
    _warn_of_unknown(stores["validation"], tokenizer)
    form = form_of(config.dtype, config.quantize)
    reduced, worst_passage = (
        (None, "")
        if form == "float32"
        else reduced_form_cost(language_model, stores["validation"], form)
    )
    _log.info("baselines: %d validation bytes", loss.n_bytes)
    ngrams, last_bytes = _read_training_text(stores["train"], tokenizer)
    compression = xz_bits_per_byte(last_bytes, validation_bytes)
    result = EvaluateResult(
        checkpoint=language_model.path.name,
        nats=loss.nats,
        perplexity=loss.perplexity,
        bits_per_byte=loss.bits_per_byte,
        n_targets=loss.n_targets,
        n_bytes=len(validation_bytes),
        train_nats=train_loss.nats,
        ngram_bits_per_byte=ngrams.bits_per_byte(validation_bytes),
        xz_bits_per_byte=compression.best,
        xz_alone_bits_per_byte=compression.alone,
        reduced=reduced,
        worst_passage=worst_passage,
        documents=documents,
        data=str(data),
        other_data=_other_data(run) if config.data is None else (),
        is_standard=_is_standard(config, run, language_model, documents),
    )
    if result.is_standard:
        record_if_possible(
            run.evaluation / "loss.json",
            {**asdict(result), "lost_to": list(result.lost_to)},
        )
    return result


def _warn_of_unknown(store: TokenStore, tokenizer: Tokenizer) -> None:
    """Warn where words are missing, because they have no bytes to divide the loss by."""
    unknown = tokenizer.special_tokens.get(UNKNOWN)
    if unknown is None:
        return
    n = sum(int((ids == unknown).sum()) for ids in blocks(store))
    if n:
        _log.warning(
            "%.0f%% of the validation tokens are unknown words, whose bytes are not counted. "
            "Compare these bits per byte only with those of the same tokenizer.",
            100 * n / store.n_tokens,
        )


def _n_train_windows(context_length: int, stride: int | None) -> int:
    """Choose the number of training windows, which together have about the same targets."""
    n = min(_TRAIN_WINDOWS, max(1, _TRAIN_TOKENS // context_length))
    return n if stride is None else max(1, n * context_length // stride)


def _read_training_text(store: TokenStore, tokenizer: Tokenizer) -> tuple[ByteNgrams, bytes]:
    """Count the n-grams of the training text, and return its last bytes, for xz.

    The text is read in blocks, so that memory does not grow with it.
    """
    last = bytearray()

    def text() -> Iterator[bytes]:
        for block in target_bytes(store, tokenizer, skip=0):
            last.extend(block)
            del last[:-WINDOW_BYTES]
            yield block

    ngrams = ByteNgrams(text(), N_CONTEXT_BYTES)
    return ngrams, bytes(last)


def _is_standard(
    config: EvaluateConfig, run: RunFolder, language_model: LanguageModel, documents: Documents
) -> bool:
    """Whether this is a result of the run; see `EvaluateResult.is_standard`."""
    if run.is_imported:  # it has no data of its own
        return True
    own = None
    with suppress(UserError):  # the data is not where it was
        own = data_of(run).resolve()
    T = language_model.model.config.context_length
    other_checkpoints = [checkpoint.name for checkpoint in run.preferred_checkpoints()[1:]]
    return (
        (config.data is None or own in (None, config.data.resolve()))
        and config.context_length in (None, T)
        and config.stride in (None, T)
        and documents == documents_of(run)
        and language_model.path.name not in other_checkpoints
    )


def _other_data(run: RunFolder) -> tuple[str, ...]:
    mix = pretraining_of(run).read_manifest().get("mix") or ()
    return tuple(str(text["data"]) for text in mix[1:])


def _context_length(wanted: int | None, largest: int) -> int:
    if wanted is None:
        return largest
    if wanted > largest:
        raise UserError(
            f"context_length is {wanted:,}, and the model has a context of {largest:,} tokens.",
            settings={"context_length": largest},
        )
    return wanted
