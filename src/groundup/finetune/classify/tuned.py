"""The tuned recipes: train the last blocks, LoRA adapters, or all weights with a new head."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from groundup.base.errors import UserError
from groundup.base.run import RunFolder
from groundup.finetune.batches import RowBatches, label_row
from groundup.finetune.classify.calibration import losses
from groundup.finetune.classify.classifier import LoadedClassifier
from groundup.finetune.classify.config import ClassifyConfig
from groundup.finetune.classify.examples import Examples
from groundup.finetune.classify.fixed_shapes import OnTokens
from groundup.finetune.classify.heads import Classifier, labels_of
from groundup.finetune.classify.lower_blocks import StateBatches, entering_states, upper_states
from groundup.finetune.training import Batches, FineTuning, OnStep, Trained, fine_tune
from groundup.model.gpt import GPT
from groundup.model.lora import add_lora, merge_lora
from groundup.tokenizer.protocol import Tokenizer
from groundup.train.optimizer import Optimizer, OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class TuningData:
    """What a tuned classifier is trained on."""

    examples: Examples
    train: Sequence[list[int]]
    """Token ids of the training texts."""
    validation: Sequence[list[int]]
    """Token ids of the validation texts."""
    base_sha256: str
    """`base_fingerprint` of the model."""
    features: Path
    """Folder for states that are computed once."""


def tune_classifier(
    gpt: GPT,
    tokenizer: Tokenizer,
    config: ClassifyConfig,
    data: TuningData,
    run: RunFolder,
    *,
    dtype: torch.dtype,
    on_step: OnStep | None = None,
    on_tokens: OnTokens | None = None,
) -> tuple[LoadedClassifier, Trained]:
    """Train a classifier in a run folder, and return it with the best weights.

    Args:
        gpt: The language model; it is changed.
        tokenizer: Its tokenizer.
        config: The settings; the method is not "frozen".
        data: The training and the validation set.
        run: The run folder, from `open_fine_tuning`.
        dtype: Format of the matrix products.
        on_step: Called after each optimizer step.
        on_tokens: Called while the states of the lower blocks are computed.

    Raises:
        UserError: The model has too few blocks, or the training fails (see `fine_tune`).
    """
    examples = data.examples
    targets = examples.targets_of(examples.split.train)
    rows = [label_row(ids, target) for ids, target in zip(data.train, targets, strict=True)]
    classifier = Classifier(
        gpt, examples.names, pooling=config.pooling, max_tokens=config.max_tokens, dtype=dtype
    ).to(gpt.device)
    choose_weights(classifier, config)
    identity = _identity(config, data)
    n_blocks = config.last_blocks
    batches: Batches
    compute: Callable[[Tensor], Tensor]
    if config.method == "last":
        states = entering_states(
            gpt.eval(), data.train, n_blocks, dtype=dtype, on_tokens=on_tokens,
            file=data.features / f"blocks-{_lower_hash(config, data, dtype)}.safetensors",
        )  # fmt: skip
        batches = StateBatches(states, rows, config.batch_size, seed=config.seed)

        def compute(x: Tensor) -> Tensor:
            return upper_states(gpt, x, n_blocks)
    else:
        batches = RowBatches(rows, config.batch_size, seed=config.seed, sort_by_length=True)
        compute = gpt.hidden
    weights = class_weights(targets, len(examples.names), config).to(gpt.device)

    def loss(inputs: Tensor, row_targets: Tensor) -> Tensor:
        lengths, labels = labels_of(row_targets)
        logits = classifier.classify(compute(inputs).float(), lengths)
        each = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        return (each * weights[labels]).mean()

    loaded = LoadedClassifier(classifier, tokenizer)
    validation_targets = examples.targets_of(examples.split.validation)

    def validate() -> float:
        found = loaded.of_rows(data.validation).numpy()
        return float(losses(found, validation_targets).mean())

    job = FineTuning(
        model=classifier,
        loss=loss,
        batches=batches,
        optimizer=Optimizer(
            classifier,
            OptimizerConfig(
                name="adamw",
                learning_rate=config.learning_rate,
                weight_decay=config.weight_decay,
                adam_beta2=0.999,
                adam_eps=1e-8,
            ),
        ),
        n_steps=config.n_steps(len(rows)),
        config=replace(config, dtype="fp32" if dtype == torch.float32 else "bf16"),
        validate=validate if data.validation else None,
        identity=identity,
    )
    trained = fine_tune(job, run, on_step=on_step)
    if config.method == "lora":
        classifier.gpt = merge_lora(gpt)
    classifier.requires_grad_(True)
    return loaded, trained


def choose_weights(classifier: Classifier, config: ClassifyConfig) -> None:
    """Set which weights are trained: the head, and what the method names.

    Raises:
        UserError: The model has fewer blocks than are to be trained.
    """
    gpt = classifier.gpt
    if config.method == "lora":
        add_lora(gpt, config.lora, seed=config.seed)
    elif config.method == "last":
        n_layers = gpt.config.n_layers
        if config.last_blocks > n_layers:
            raise UserError(
                f"last_blocks is {config.last_blocks}, and the model has {n_layers} blocks.",
                settings={"last_blocks": max(1, n_layers // 4)},
            )
        gpt.requires_grad_(False)
        for part in (*gpt.blocks[n_layers - config.last_blocks :], gpt.final_norm):
            part.requires_grad_(True)
    elif gpt.head.weight is not gpt.token_embedding.weight:
        gpt.head.requires_grad_(False)  # it is not used
    gpt.activation_checkpointing = config.activation_checkpointing


def class_weights(
    targets: Sequence[int], n_classes: int, config: ClassifyConfig
) -> Float[Tensor, " K"]:
    """Weights of the classes in the loss; their mean over the training rows is 1."""
    if config.balance != "weighted":
        return torch.ones(n_classes)
    counts = np.bincount(np.asarray(targets), minlength=n_classes)
    return torch.tensor(len(targets) / (n_classes * counts), dtype=torch.float32)


def _identity(config: ClassifyConfig, data: TuningData) -> str:
    """Hash what a checkpoint depends on: model, texts, labels and settings."""
    examples, names = data.examples, ("method", "last_blocks", "pooling", "max_tokens", "balance")
    settings = {name: getattr(config, name) for name in names}
    settings |= {"lora": repr(config.lora), "learning_rate": config.learning_rate}
    settings |= {"batch_size": config.batch_size, "seed": config.seed}
    about = [data.base_sha256, data.train, data.validation, settings]
    about += [examples.targets_of(examples.split.train), list(examples.names)]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


def _lower_hash(config: ClassifyConfig, data: TuningData, dtype: torch.dtype) -> str:
    about = [1, data.base_sha256, config.last_blocks, str(dtype), data.train]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
