"""Capture the attention of every head, and the logits, for one text.

A hook on each attention layer records its input; the layer's own projection computes queries and
keys, and the formula of the paper the weights. The block itself runs unchanged.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from groundup.base.errors import UserError
from groundup.model.attention import attention_weights
from groundup.model.gpt import GPT, Block
from groundup.model.multi_head import MultiHeadAttention


@dataclass(frozen=True)
class Capture:
    """The attention weights and the logits of one forward pass."""

    attention: Float[Tensor, "L H T T"]
    """The weight of position s (column) for position t (row); rows sum to one."""
    logits: Float[Tensor, "T V"]
    """The logits after each position."""


@torch.no_grad()
def capture(model: GPT, ids: list[int]) -> Capture:
    """Run the model once on one text and record the attention of every head.

    Raises:
        UserError: There are no tokens, or more than the context length; or the model has layers
            without attention weights.
    """
    if not ids:
        raise UserError(
            "The text has no tokens. At least one word is expected.",
            settings={"text": "The quick brown fox"},
        )
    seen: dict[int, tuple[Any, ...]] = {}
    blocks = [block for block in model.blocks if isinstance(block, Block)]
    layers = [block.attention for block in blocks if block.attention is not None]
    if len(layers) < len(blocks):
        raise UserError(
            f"layers is {model.config.layers!r}, and layers d (gated delta rule) have no attention "
            "weights. A model without d is expected."
        )
    positions = None if model.rotary is None else model.rotary.between(0, len(ids))

    def record(layer: MultiHeadAttention, arguments: tuple[Any, ...]) -> None:
        seen[layer.layer] = arguments

    hooks = [layer.register_forward_pre_hook(record) for layer in layers]
    was_training = model.training
    model.eval()
    try:
        logits = model(torch.tensor([ids], device=model.device))[0]
        weights = []
        for layer in layers:
            x, rotary = seen[layer.layer][:2]
            if layer.relative:  # it rotates by distances
                rotary = positions
            queries, keys, _ = layer.project(x, rotary)
            weights.append(attention_weights(queries, keys, window=layer.window)[0])
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return Capture(attention=torch.stack(weights).float().cpu(), logits=logits.float().cpu())
