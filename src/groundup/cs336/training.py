"""The adapters of a training loop: batches, loss, clipping, optimizer, schedule, checkpoints."""

from collections.abc import Iterable
from os import PathLike
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from groundup.base.errors import UserError
from groundup.data.batch import make_batch
from groundup.data.windows import Windows
from groundup.model.layers import softmax
from groundup.model.loss import cross_entropy
from groundup.train.adamw import AdamW
from groundup.train.loop import clip_grad_norm
from groundup.train.schedule import cosine_schedule
from groundup.weights.module_checkpoint import (
    ReadableFile,
    StatefulOptimizer,
    WritableFile,
    load_checkpoint,
    save_checkpoint,
)


def run_get_batch(
    dataset: NDArray[Any], batch_size: int, context_length: int, device: str
) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
    """Draw windows of text at random, as inputs and the tokens after them.

    Args:
        dataset: Token ids in one dimension, such as a memory map of uint16.
        batch_size: Number of windows. Each start is equally likely, and may be drawn twice.
        context_length: Tokens of a window.
        device: Device of the result.

    Returns:
        Inputs and targets, int64. The starts are drawn from torch's global random state.

    Raises:
        UserError: The text has no window of this length.
        RuntimeError: There is no such device.
    """
    windows = Windows(dataset, context_length, stride=1)
    starts = torch.randint(len(windows), (batch_size,))
    inputs, targets = make_batch(windows, starts.numpy().astype(np.int64))
    return inputs.to(device), targets.to(device)


def run_softmax(in_features: Float[Tensor, "*N"], dim: int) -> Float[Tensor, "*N"]:
    """Compute the softmax along a dimension."""
    return softmax(in_features, dim)


def run_cross_entropy(
    inputs: Float[Tensor, "*N V"], targets: Int[Tensor, "*N"]
) -> Float[Tensor, ""]:
    """Compute the mean cross-entropy of logits, in nats."""
    return cross_entropy(inputs, targets)


def run_gradient_clipping(parameters: Iterable[nn.Parameter], max_l2_norm: float | int) -> None:
    """Scale the gradients in place, so that their norm is at most `max_l2_norm`."""
    clip_grad_norm(parameters, max_l2_norm)


def get_adamw_cls() -> type[AdamW]:
    """Return the class of AdamW."""
    return AdamW


def run_get_lr_cosine_schedule(
    it: int,
    max_learning_rate: float | int,
    min_learning_rate: float | int,
    warmup_iters: int,
    cosine_cycle_iters: int,
) -> float:
    """Compute the learning rate of an iteration, counted from 0.

    Args:
        it: The iteration.
        max_learning_rate: Rate at the end of the warmup.
        min_learning_rate: Rate from the end of the cosine on.
        warmup_iters: Iterations of linear warmup from 0.
        cosine_cycle_iters: Iteration at which the cosine ends.

    Raises:
        UserError: A number is negative, or the warmup is longer than the cycle.
    """
    if not max_learning_rate > 0:
        raise UserError(f"max_learning_rate is {max_learning_rate}. A number above 0 is expected.")
    return max_learning_rate * cosine_schedule(
        it,
        cosine_cycle_iters,
        warmup_steps=warmup_iters,
        final_frac=min_learning_rate / max_learning_rate,
    )


def run_save_checkpoint(
    model: nn.Module,
    optimizer: StatefulOptimizer,
    iteration: int,
    out: str | PathLike[str] | WritableFile,
) -> None:
    """Write a checkpoint in safetensors, to a path or an open file."""
    save_checkpoint(model, optimizer, iteration, out)


def run_load_checkpoint(
    src: str | PathLike[str] | ReadableFile, model: nn.Module, optimizer: StatefulOptimizer
) -> int:
    """Read a checkpoint into a model and an optimizer, and return its iteration.

    Raises:
        UserError: The file is no checkpoint, or does not fit.
    """
    return load_checkpoint(src, model, optimizer)
