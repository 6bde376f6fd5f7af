"""A fine-tuning job: what a command trains, on what, and for how long."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from groundup.evaluation.load import LanguageModel
from groundup.finetune.batch_stream import Batches
from groundup.finetune.config import FineTuneConfig
from groundup.train.loop import count_targets
from groundup.train.optimizer import Optimizer, OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """What to train, on what, and for how long."""

    model: nn.Module
    """Parameters with `requires_grad=True` are trained, and only they are in the checkpoints."""
    loss: Callable[..., Tensor]
    """`loss(*batch)`: the mean over the units that `count` counts. It is called while the weights
    of the language model are rounded to the number format of the run."""
    batches: Batches
    """Batch k is that of step k + 1. A GPU gets its tensors from pinned memory."""
    optimizer: Optimizer
    """Made for `model`, after parameters were frozen or added."""
    n_steps: int
    """Number of optimizer steps; under a budget the maximum."""
    config: FineTuneConfig
    """The settings of the command."""
    validate: Callable[[], float] | None = None
    """Measure the validation loss in nats, in evaluation mode and in the number format of the run.
    None: the last weights are the best ones."""
    computes_logits: bool = True
    """Whether the loss computes logits of the vocabulary, which take memory."""
    identity: str = ""
    """A hash of the base weights, tokenizer, data and settings. A checkpoint with another identity
    is refused."""
    count: Callable[[tuple[Tensor, ...]], int] = count_targets
    """Number of units in a batch; the default is the number of targets that are not -100."""
    before_step: Callable[[int], None] | None = None
    """Called with k before batch k is made, e.g. to sample from the model. It must depend on
    nothing but k, the weights and torch's global random state."""
    after_s: float = 0.0
    """Estimated seconds that the caller needs after training, for tests. A budget reserves them."""
    started_at: float | None = None
    """When the budget started, by `time.monotonic()`. None: when `fine_tune` is called."""


def adamw(model: nn.Module, config: FineTuneConfig, *, beta2: float = 0.999) -> Optimizer:
    """Make AdamW with the rates of a config, and the betas and the epsilon of `torch.optim.AdamW`.

    Args:
        model: The model, after parameters were frozen or added.
        config: The settings, with a learning rate.
        beta2: Decay rate of the average of the squared gradient.
    """
    return Optimizer(
        model,
        OptimizerConfig(
            name="adamw",
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            adam_beta2=beta2,
            adam_eps=1e-8,
        ),
    )


def base_fingerprint(foundation: LanguageModel) -> str:
    """Compute the SHA-256 of the weights and the tokenizer of a foundation model."""
    digest = hashlib.sha256(foundation.tokenizer.fingerprint.encode())
    for name, weight in sorted(foundation.model.named_parameters()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
