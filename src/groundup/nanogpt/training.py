"""What nanoGPT's train.py does around the model: batches, losses, learning rate, checkpoints."""

import pickle
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from groundup.base.errors import UserError
from groundup.data.batch import make_batch
from groundup.data.windows import Windows
from groundup.nanogpt.blocks import GPTConfig
from groundup.nanogpt.model import GPT, untie
from groundup.train.schedule import cosine_schedule

Data = str | PathLike[str] | NDArray[Any]
_COMPILED = "_orig_mod."


def get_batch(
    data: Data, batch_size: int, block_size: int, device: str | torch.device = "cpu"
) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
    """Draw windows of text at random, as inputs and the tokens after them.

    Args:
        data: The path of a file of uint16 ids, such as train.bin, or an array of ids.
        batch_size: Number of windows.
        block_size: Tokens of a window.
        device: Device of the result.

    Returns:
        Inputs and targets, int64. The starts are drawn from torch's global random state, as in
        nanoGPT.

    Raises:
        UserError: The file is missing, or has no window of this length.
    """
    windows = Windows(_tokens(data), block_size, stride=1)
    starts = torch.randint(len(windows), (batch_size,))
    inputs, targets = make_batch(windows, starts.numpy())
    return inputs.to(device), targets.to(device)


@torch.no_grad()
def estimate_loss(
    model: GPT,
    splits: Mapping[str, Data],
    *,
    batch_size: int = 12,
    eval_iters: int = 200,
    device: str | torch.device = "cpu",
) -> dict[str, float]:
    """Estimate the mean loss of each split from random batches, in evaluation mode.

    Args:
        model: The model; its mode is the same afterwards.
        splits: Names and data, such as {"train": "train.bin", "val": "val.bin"}.
        batch_size: Number of windows in a batch.
        eval_iters: Number of batches per split.
        device: Device of the model.

    Returns:
        The mean loss in nats of each split.
    """
    was_training = model.training
    model.eval()
    means = {}
    for name, data in splits.items():
        losses = torch.zeros(eval_iters)
        for index in range(eval_iters):
            x, y = get_batch(data, batch_size, model.config.block_size, device)
            losses[index] = model(x, y)[1].item()
        means[name] = losses.mean().item()
    model.train(was_training)
    return means


def get_lr(
    it: int,
    learning_rate: float | int = 6e-4,
    warmup_iters: int = 2000,
    lr_decay_iters: int = 600_000,
    min_lr: float | int = 6e-5,
) -> float:
    """Compute the learning rate of an iteration, counted from 0.

    Linear warmup that begins above 0, then a cosine down to `min_lr` at `lr_decay_iters`.

    Raises:
        UserError: A number is negative, `learning_rate` is 0, or the warmup is longer than the
            decay.
    """
    if not learning_rate > 0:
        raise UserError(f"learning_rate is {learning_rate}. A number above 0 is expected.")
    if min(it, warmup_iters, min_lr) < 0 or warmup_iters > lr_decay_iters:
        raise UserError(
            f"it is {it}, warmup_iters {warmup_iters}, lr_decay_iters {lr_decay_iters} and min_lr "
            f"{min_lr}. Numbers of at least 0 are expected, and no more warmup_iters than "
            "lr_decay_iters."
        )
    if it < warmup_iters:
        return learning_rate * (it + 1) / (warmup_iters + 1)
    factor = cosine_schedule(
        it, lr_decay_iters, warmup_steps=warmup_iters, final_frac=min_lr / learning_rate
    )
    return learning_rate * factor


def load_checkpoint(path: str | PathLike[str]) -> tuple[GPT, dict[str, Any]]:
    """Read a ckpt.pt that nanoGPT's train.py wrote, without running code from it.

    Args:
        path: The file.

    Returns:
        The model, on the CPU and in evaluation mode, and the rest of the checkpoint: "optimizer"
        (for `load_state_dict` of what `configure_optimizers` returns), "iter_num", "best_val_loss"
        and "config".

    Raises:
        UserError: The file is missing, damaged, contains code, or is no checkpoint of nanoGPT.
    """
    where = str(path)
    try:
        checkpoint = torch.load(Path(path), map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError("This file is missing.", where=where) from error
    except pickle.UnpicklingError as error:
        raise UserError(
            "This file contains more than tensors and plain values, and reading it could run code. "
            "A checkpoint with weights and settings only is expected.",
            where=where,
        ) from error
    except Exception as error:  # damaged files raise errors of many kinds
        raise UserError(f"This file cannot be read as a checkpoint: {error}.", where=where) from (
            error
        )
    if not isinstance(checkpoint, dict) or not {"model", "model_args"} <= checkpoint.keys():
        raise UserError(
            'This is no checkpoint of nanoGPT. "model" and "model_args" are expected in it.',
            where=where,
        )
    if not all(isinstance(checkpoint[name], dict) for name in ("model", "model_args")):
        raise UserError(
            'This is no checkpoint of nanoGPT. A dictionary is expected as "model" and as '
            '"model_args".',
            where=where,
        )
    weights = {
        name.removeprefix(_COMPILED): value
        for name, value in checkpoint.pop("model").items()
        if not name.endswith(".attn.bias")  # the causal mask, which some versions store
    }
    try:
        model = GPT(GPTConfig(**checkpoint["model_args"]))
        head, table = (weights.get(name) for name in ("lm_head.weight", "transformer.wte.weight"))
        if head is not None and table is not None and not torch.equal(head, table):
            untie(model)
        model.load_state_dict(weights)
    except (TypeError, RuntimeError) as error:
        message = str(error).strip().rstrip(".")
        raise UserError(f"The weights do not fit nanoGPT's model: {message}.", where=where) from (
            error
        )
    return model.eval(), checkpoint


def _tokens(data: Data) -> NDArray[Any]:
    if isinstance(data, np.ndarray):
        return data
    if not Path(data).is_file():
        raise UserError("There is no such file. Token ids in uint16 are expected.", where=str(data))
    # A new memory map for each batch does not keep the pages that were read.
    try:
        return np.memmap(data, dtype=np.uint16, mode="r")
    except ValueError as error:  # empty, or of an odd number of bytes
        raise UserError(
            f"This is no file of token ids in uint16 ({error}).", where=str(data)
        ) from error
