"""The tuned recipes: train the last blocks, LoRA adapters, or all weights with a new head."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from groundup.base.errors import UserError
from groundup.base.run import RunFolder
from groundup.finetune.batch_stream import Batches
from groundup.finetune.batches import RowBatches, label_row
from groundup.finetune.classify.calibration import losses
from groundup.finetune.classify.classifier import LoadedClassifier
from groundup.finetune.classify.config import ClassifyConfig
from groundup.finetune.classify.fixed_shapes import OnTokens
from groundup.finetune.classify.heads import Classifier, labels_of
from groundup.finetune.classify.lower_blocks import StateBatches, entering_states, upper_states
from groundup.finetune.classify.materials import Materials
from groundup.finetune.job import FineTuning, adamw
from groundup.finetune.training import OnStep, Trained, fine_tune
from groundup.model.lora import add_lora, has_lora, merge_lora


@dataclass(frozen=True, kw_only=True)
class TuningJob:
    """A classifier, and how it is trained."""

    loaded: LoadedClassifier
    tuning: FineTuning


def tune_classifier(
    job: TuningJob, run: RunFolder, on_step: OnStep | None = None
) -> tuple[LoadedClassifier, Trained]:
    """Train a classifier in a run folder, and return it with the best weights.

    Raises:
        UserError: The training fails (see `fine_tune`).
    """
    trained = fine_tune(job.tuning, run, on_step=on_step)
    classifier = job.loaded.classifier
    if has_lora(classifier.gpt):
        classifier.gpt = merge_lora(classifier.gpt)
    classifier.requires_grad_(True)
    return job.loaded, trained


def tuning_job(
    config: ClassifyConfig,
    materials: Materials,
    on_tokens: OnTokens | None = None,
    *,
    started_at: float | None = None,
    after_s: float = 0.0,
) -> TuningJob:
    """Prepare the training of the last blocks, of LoRA adapters or of all weights.

    Args:
        config: The settings; the method is not "frozen".
        materials: The model, which is changed, and the texts.
        on_tokens: Called while the states of the lower blocks are computed.
        started_at: When the command started, by `time.monotonic()`. None: with the training.
        after_s: Estimated seconds of the test, which a budget reserves.

    Raises:
        UserError: The model has too few blocks.
    """
    examples, gpt, dtype = materials.examples, materials.foundation.model, materials.dtype
    split, seed = examples.split, config.seed
    train, validation = materials.rows(split.train), materials.rows(split.validation)
    targets = examples.targets_of(split.train)
    rows = [label_row(ids, target) for ids, target in zip(train, targets, strict=True)]
    classifier = Classifier(
        gpt, examples.names, pooling=config.pooling, max_tokens=materials.max_tokens, dtype=dtype
    ).to(gpt.device)
    choose_weights(classifier, config)
    n_blocks = config.last_blocks
    batches: Batches
    compute: Callable[[Tensor], Tensor]
    if config.method == "last":
        states = _states(config, materials, train, on_tokens)
        batches = StateBatches(states, rows, config.batch_size, seed=seed)

        def compute(x: Tensor) -> Tensor:
            return upper_states(gpt, x, n_blocks)
    else:
        batches = RowBatches(rows, config.batch_size, seed=seed, sort_by_length=True)
        compute = gpt.hidden
    weights = class_weights(targets, len(examples.names), config).to(gpt.device)

    def loss(inputs: Tensor, row_targets: Tensor) -> Tensor:
        lengths, labels = labels_of(row_targets)
        logits = classifier.classify(compute(inputs).float(), lengths)
        each = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        return (each * weights[labels]).mean()

    loaded = LoadedClassifier(classifier, materials.foundation.tokenizer)
    validation_targets = examples.targets_of(split.validation)

    def validate() -> float:
        found = loaded.of_rows(validation).numpy()
        return float(losses(found, validation_targets).mean())

    tuning = FineTuning(
        model=classifier,
        loss=loss,
        batches=batches,
        optimizer=adamw(classifier, config),
        n_steps=config.n_steps(len(rows)),
        config=replace(config, dtype="fp32" if dtype == torch.float32 else "bf16"),
        validate=validate if validation else None,
        computes_logits=False,
        identity=_identity(config, materials),
        started_at=started_at,
        after_s=after_s,
    )
    return TuningJob(loaded=loaded, tuning=tuning)


def _states(
    config: ClassifyConfig,
    materials: Materials,
    rows: list[list[int]],
    on_tokens: OnTokens | None,
) -> list[Float[Tensor, "T C"]]:
    """Compute or read the states that enter the trained blocks; a plan needs their shapes only."""
    gpt, n_blocks, dtype = materials.foundation.model.eval(), config.last_blocks, materials.dtype
    if config.plan_only:
        one = torch.ones(1, 1, dtype=dtype)
        return [one.expand(len(ids), gpt.config.d_model) for ids in rows]
    about = json.dumps([1, materials.fingerprint, n_blocks, str(dtype), rows])
    name = f"blocks-{hashlib.sha256(about.encode()).hexdigest()[:16]}.safetensors"
    file = materials.features / name
    return entering_states(gpt, rows, n_blocks, dtype=dtype, file=file, on_tokens=on_tokens)


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


def _identity(config: ClassifyConfig, materials: Materials) -> str:
    """Hash what a checkpoint depends on: model, texts, labels and settings."""
    examples, names = materials.examples, ("method", "last_blocks", "pooling", "balance", "seed")
    settings = {name: getattr(config, name) for name in (*names, "learning_rate", "batch_size")}
    split = examples.split
    about: list[object] = [materials.fingerprint, settings, repr(config.lora), examples.names]
    about += [materials.rows(split.train), materials.rows(split.validation)]
    about += [examples.targets_of(split.train)]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()
