"""Weights under nanoGPT's names, from and to ours. Its matrices are not transposed, as GPT-2's are.

One of our activations has two spellings there: nanoGPT computes the exact GELU, and the published
GPT-2 weights were trained with the tanh form.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from groundup.base.errors import UserError
from groundup.model.gpt import GPT
from groundup.weights.gpt2 import LAYER_NAMES, TOP_NAMES
from groundup.weights.nanogpt import config_of

_EPS = 1e-5


def to_ours(
    args: dict[str, Any], theirs: dict[str, Tensor], *, is_tied: bool, is_tanh: bool
) -> GPT:
    """Build our model.

    Args:
        args: The fields of nanoGPT's config.
        theirs: The weights under its names.
        is_tied: The head is the token embedding.
        is_tanh: The GELU is the tanh form.

    Raises:
        UserError: The weights do not fit.
    """
    config = config_of(args, is_tied=is_tied, is_tanh=is_tanh, dropout=float(args["dropout"]))
    model = GPT(config)
    named = dict(_names(config.n_layers))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            their = theirs.get(named[name])
            if their is None or their.shape != parameter.shape:
                found = "missing" if their is None else f"of shape {tuple(their.shape)}"
                raise UserError(
                    f"The weight {named[name]} is {found}. Shape {tuple(parameter.shape)} is "
                    "expected."
                )
            parameter.copy_(their)
    return model


def to_theirs(model: GPT) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the fields of nanoGPT's config, and copies of the weights under its names.

    Raises:
        UserError: nanoGPT has no such architecture.
    """
    c = model.config
    same = (
        c.norm == "layer"
        and c.norm_eps == _EPS
        and c.positions == "learned"
        and c.activation in ("gelu", "gelu-exact")
        and not (c.qk_norm or c.ngram > 1 or (c.qkv_bias and not c.bias))
        and set(c.kinds) == {"g"}
        and c.kv_heads == c.n_heads
        and c.head_width * c.n_heads == c.d_model
        and c.ff_width == 4 * c.d_model
    )
    if not same:
        raise UserError(
            "nanoGPT has no model of this architecture. The settings of GPT-2 are expected, with "
            "norm_eps=1e-5 and biases everywhere or nowhere."
        )
    ours, theirs = model.state_dict(), {}
    for our, their in _names(c.n_layers):
        if our in ours:
            theirs[their] = ours[our].clone()
        elif c.bias:  # queries, keys and values without a bias
            theirs[their] = torch.zeros(3 * c.d_model)
    args = {
        "block_size": c.context_length,
        "vocab_size": c.vocab_size,
        "n_layer": c.n_layers,
        "n_head": c.n_heads,
        "n_embd": c.d_model,
        "dropout": c.dropout,
        "bias": c.bias,
    }
    return args, theirs


def _names(n_layers: int) -> Iterator[tuple[str, str]]:
    """Each of our names with theirs."""
    for our, their in TOP_NAMES:
        yield our, f"transformer.{their}"
    for layer in range(n_layers):
        for our, their, _ in LAYER_NAMES:
            yield f"blocks.{layer}.{our}", f"transformer.h.{layer}.{their}"
    yield "head.weight", "lm_head.weight"
