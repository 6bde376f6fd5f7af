"""What goes on inside for one text: the attention of every head, and what comes next.

A hook on each layer's attention sees its input; the layer's own projection gives queries and keys,
and the formula of the paper gives the weights. The block itself runs untouched.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from groundup.base.errors import UserError
from groundup.model.attention import Attention
from groundup.model.gpt import GPT, Block


@dataclass(frozen=True)
class Capture:
    """One forward pass, seen from inside."""

    attention: Float[Tensor, "L H T T"]
    """How much position t (row) takes from position s (column); rows sum to one."""
    logits: Float[Tensor, "T V"]
    """What the model says after each position."""


@torch.no_grad()
def capture(model: GPT, ids: list[int]) -> Capture:
    """Run the model once on one text and keep every head's attention.

    Raises:
        UserError: There are no ids, or more than the context holds.
    """
    if not ids:
        raise UserError("there is no token to look at", need="some words", type_this='--text "..."')
    seen: dict[int, tuple[Any, ...]] = {}
    rooms = [block.attention for block in model.blocks if isinstance(block, Block)]

    def keep(room: Attention, arguments: tuple[Any, ...]) -> None:
        seen[room.layer] = arguments

    hooks = [room.register_forward_pre_hook(keep) for room in rooms]
    was_training = model.training
    model.eval()
    try:
        logits = model(torch.tensor([ids], device=model.device))[0]
        layers = []
        for room in rooms:
            x, rotary = seen[room.layer][:2]
            queries, keys, _ = room.project(x, rotary)
            layers.append(attention_weights(queries[0], keys[0]))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return Capture(attention=torch.stack(layers).float().cpu(), logits=logits.float().cpu())


def attention_weights(
    queries: Float[Tensor, "H T D"], keys: Float[Tensor, "G T D"]
) -> Float[Tensor, "H T T"]:
    """Softmax of the scaled products, no look ahead.

    Source: "Attention Is All You Need", equation 1.
    """
    H, T, D = queries.shape
    keys = keys.repeat_interleave(H // keys.shape[0], dim=0)
    scores = queries @ keys.transpose(-1, -2) / D**0.5
    future = torch.ones(T, T, dtype=torch.bool, device=scores.device).triu(1)
    weights: Tensor = scores.masked_fill(future, float("-inf")).softmax(dim=-1)
    return weights
