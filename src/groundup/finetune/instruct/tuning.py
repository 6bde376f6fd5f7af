"""The training of an assistant: which weights are trained, in which format, on which batches."""

import copy
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from groundup.base.config import to_mapping
from groundup.base.run import RunFolder
from groundup.evaluation.load import LanguageModel
from groundup.finetune.batches import Row, RowBatches, sequence_loss
from groundup.finetune.foundation import documents_of
from groundup.finetune.instruct.config import LORA_ABOVE, InstructConfig
from groundup.finetune.job import FineTuning, adamw, base_fingerprint
from groundup.finetune.training import OnStep, Trained, fine_tune, mean_loss
from groundup.model.gpt import GPT
from groundup.model.lora import add_lora, has_lora, merge_lora
from groundup.tokenizer.protocol import Tokenizer
from groundup.train.curve_checks import Finding
from groundup.train.optimizer import Optimizer, OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The result of a training."""

    model: GPT
    """The complete model, with the adapters merged."""
    adapted: GPT | None
    """The model with its adapters. None: all weights were trained."""
    trained: Trained
    n_trained_parameters: int


def tune_assistant(
    job: FineTuning,
    run: RunFolder,
    *,
    on_step: OnStep | None = None,
    on_finding: Callable[[Finding], None] | None = None,
) -> Tuned:
    """Train, and resume in a run folder where such a training was interrupted.

    Args:
        job: What `job_of` returned.
        run: The run folder.
        on_step: Called after each optimizer step.
        on_finding: Called when a check fails.
    """
    config, model = job.config, job.model
    assert isinstance(config, InstructConfig)
    assert isinstance(model, GPT)
    assert isinstance(job.batches, RowBatches)
    lengths = [len(ids) for ids, _ in job.batches.rows]
    with neftune(model, config.neftune_alpha, sum(lengths) / len(lengths)):
        trained = fine_tune(job, run, on_step=on_step, on_finding=on_finding)
    return Tuned(
        model=merge_lora(model) if has_lora(model) else model,
        adapted=model if has_lora(model) else None,
        trained=trained,
        n_trained_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
    )


def job_of(
    foundation: LanguageModel,
    rows: list[Row],
    validation_rows: list[Row],
    config: InstructConfig,
    *,
    after_s: float = 0.0,
    started_at: float | None = None,
) -> FineTuning:
    """Describe a training to the trainer.

    Args:
        foundation: The model before; it is not changed.
        rows: The training rows.
        validation_rows: Rows to choose the best weights by. Empty: the last weights are taken.
        config: The settings, after `InstructConfig.resolved`.
        after_s: Estimated seconds of the tests after training, which a budget reserves.
        started_at: When the command started, by `time.monotonic()`.
    """
    model = copy.deepcopy(foundation.model)
    if config.method == "lora":
        add_lora(model, config.lora, seed=config.seed)
    n_steps = config.n_steps(len(rows))
    assert config.batch_size is not None
    return FineTuning(
        model=model,
        loss=partial(sequence_loss, model),
        batches=RowBatches(rows, config.batch_size, seed=config.seed),
        optimizer=_optimizer(model, config),
        n_steps=n_steps,
        config=config,
        validate=partial(mean_loss, model, validation_rows) if validation_rows else None,
        identity=_identity(foundation, rows, config),
        after_s=after_s,
        started_at=started_at,
    )


def n_plain_rows(config: InstructConfig, n_rows: int) -> int:
    """Return the number of rows of plain text beside `n_rows` other rows."""
    return round(config.mix_frac / (1 - config.mix_frac) * n_rows)


def plain_rows(
    config: InstructConfig, tokenizer: Tokenizer, context_length: int, n_rows: int
) -> list[Row]:
    """Cut rows of plain text, all of whose tokens are targets, out of the training documents.

    There are as many as `config.mix_frac` says, beside `n_rows` other rows.
    """
    n_wanted = n_plain_rows(config, n_rows)
    if not n_wanted:
        return []
    documents = documents_of(config.run, config.data, "train", instead="mix_frac 0")
    length = min(256, context_length)
    pieces: list[np.ndarray] = []  # much smaller than lists of all tokens
    for document in documents:
        ids = np.array(tokenizer.encode(document.text), dtype=np.int32)
        cut = (ids[i : i + length + 1] for i in range(0, len(ids), length))
        pieces += [piece for piece in cut if len(piece) > 1]
    order = np.random.default_rng(config.seed).permutation(len(pieces))
    chosen = [pieces[order[i % len(pieces)]].tolist() for i in range(n_wanted)]
    return [(piece[:-1], piece[1:]) for piece in chosen]


@contextmanager
def neftune(model: GPT, alpha: float | int, length: float | int) -> Iterator[None]:
    """Add noise to the embeddings while the model is in training mode.

    Args:
        model: The model.
        alpha: Scale of the noise. 0: none.
        length: Mean number of tokens of a row: rows of a batch may be packed into one.

    Source: "NEFTune: Noisy Embeddings Improve Instruction Finetuning", algorithm 1.
    """

    def add_noise(module: nn.Module, _: Any, embedded: Tensor) -> Tensor:
        if not module.training:
            return embedded
        bound = alpha / (length * embedded.shape[-1]) ** 0.5
        return embedded + torch.empty_like(embedded).uniform_(-bound, bound)

    if not alpha:
        yield
        return
    hook = model.token_embedding.register_forward_hook(add_noise)
    try:
        yield
    finally:
        hook.remove()


def _optimizer(model: GPT, config: InstructConfig) -> Optimizer:
    assert config.learning_rate is not None
    is_small = sum(p.numel() for p in model.parameters()) <= LORA_ABOVE
    if config.method != "all" or not is_small:
        return adamw(model, config)
    return Optimizer(
        model,
        OptimizerConfig(
            learning_rate=config.learning_rate,
            embedding_learning_rate=config.embedding_learning_rate,
            norm_learning_rate=config.embedding_learning_rate,
            weight_decay=config.weight_decay,
        ),
    )


def _identity(foundation: LanguageModel, rows: list[Row], config: InstructConfig) -> str:
    settings = to_mapping(config)
    for name in ("out", "budget", "device", "threads", "plan_only", "show"):
        settings.pop(name, None)
    digest = hashlib.sha256(base_fingerprint(foundation).encode())
    digest.update(repr(sorted(settings.items(), key=str)).encode())
    for ids, targets in rows:
        digest.update(np.array([*ids, -1, *targets], dtype=np.int64).data)
    return digest.hexdigest()
