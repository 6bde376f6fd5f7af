"""Write a checkpoint of nanoGPT: the file ckpt.pt that its sample.py and train.py read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from groundup.base.errors import UserError
from groundup.base.files import atomic_path
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.weights.checkpoint_format import stored_tensors
from groundup.weights.gpt2 import LAYER_NAMES, TOP_NAMES

PRODUCER = "groundup"
"""In the file, so that a later export knows that it may replace it."""


def check_nanogpt(config: GPTConfig) -> None:
    """Check that nanoGPT computes a model with this config.

    Raises:
        UserError: It does not; the message names the settings.
    """
    wanted: dict[str, Any] = {
        "norm": "layer",
        "norm_eps": 1e-5,
        "positions": "learned",
        "activation": "gelu-exact",
        "qk_norm": False,
        "ngram": 1,
        "tie_embeddings": True,
        "kv_heads": config.n_heads,
        "head_width": config.d_model / config.n_heads,
        "ff_width": 4 * config.d_model,
    }
    if not config.bias:
        wanted["qkv_bias"] = False
    if set(config.kinds) != {"g"}:
        pattern = "layers" if config.layers is not None else "sliding_window"
        wanted[pattern] = None
    wrong = [
        f"{name} is {getattr(config, name)!r} instead of {value!r}"
        for name, value in wanted.items()
        if getattr(config, name) != value
    ]
    if wrong:
        raise UserError(f"nanoGPT does not compute this model: {'; '.join(wrong)}.")


def write_nanogpt(model: GPT, path: Path | str, *, step: int = 0) -> None:
    """Write the weights and the settings; the state of an optimizer is not written.

    Args:
        model: A model of nanoGPT's architecture.
        path: The file to write. One that is there is replaced.
        step: Number of optimizer steps that it was trained for.

    Raises:
        UserError: nanoGPT does not compute this model, or the file cannot be written.
    """
    config = model.config
    check_nanogpt(config)
    ours, theirs = stored_tensors(model), {}
    for our, their in _names(config):
        tensor = ours.get(our)
        if tensor is None:  # queries, keys and values without a bias
            tensor = torch.zeros(3 * config.d_model)
        theirs[their] = tensor.float()
    theirs["lm_head.weight"] = theirs["transformer.wte.weight"]
    checkpoint = {
        "model": theirs,
        "model_args": {
            "n_layer": config.n_layers,
            "n_head": config.n_heads,
            "n_embd": config.d_model,
            "block_size": config.context_length,
            "bias": config.bias,
            "vocab_size": config.vocab_size,
            "dropout": config.dropout,
        },
        "iter_num": step,
        "best_val_loss": 1e9,
        "producer": PRODUCER,
    }
    with atomic_path(path) as temporary:
        torch.save(checkpoint, temporary)


def _names(config: GPTConfig) -> Iterator[tuple[str, str]]:
    names = [(our, their) for our, their in TOP_NAMES]
    for layer in range(config.n_layers):
        names += [(f"blocks.{layer}.{our}", f"h.{layer}.{their}") for our, their, _ in LAYER_NAMES]
    for our, their in names:
        if config.bias or not our.endswith(".bias"):
            yield our, f"transformer.{their}"
