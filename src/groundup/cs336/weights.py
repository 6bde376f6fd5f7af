"""Weights in a course's names: their places in our modules, and calls of modules with them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from groundup.base.errors import UserError

Weights = Mapping[str, Tensor]
# Our name in a block, and the course's; several of the course's matrices are the rows of one of
# ours.
BLOCK: dict[str, tuple[str, ...]] = {
    "attention_norm.weight": ("ln1.weight",),
    "attention.qkv.weight": ("attn.q_proj.weight", "attn.k_proj.weight", "attn.v_proj.weight"),
    "attention.out.weight": ("attn.output_proj.weight",),
    "mlp_norm.weight": ("ln2.weight",),
    "mlp.up.weight": ("ffn.w1.weight", "ffn.w3.weight"),
    "mlp.down.weight": ("ffn.w2.weight",),
}
_TOP: dict[str, tuple[str, ...]] = {
    "token_embedding.weight": ("token_embeddings.weight",),
    "final_norm.weight": ("ln_final.weight",),
    "head.weight": ("lm_head.weight",),
}


def all_names(n_layers: int) -> dict[str, tuple[str, ...]]:
    """List our names of a model's weights, each with the course's names of its rows."""
    names = dict(_TOP)
    for layer in range(n_layers):
        for ours, theirs in BLOCK.items():
            names[f"blocks.{layer}.{ours}"] = tuple(f"layers.{layer}.{name}" for name in theirs)
    return names


def in_our_names(weights: Weights, names: Mapping[str, tuple[str, ...]]) -> dict[str, Tensor]:
    """Return the weights under our names.

    Raises:
        UserError: A weight is missing, unexpected or of another shape than its neighbors.
    """
    expected = {name for theirs in names.values() for name in theirs}
    missing, extra = sorted(expected - weights.keys()), sorted(weights.keys() - expected)
    if missing or extra:
        raise UserError(
            f"Missing weights ({len(missing)}): {', '.join(missing[:3]) or 'none'}; unexpected "
            f"weights ({len(extra)}): {', '.join(extra[:3]) or 'none'}."
        )
    return {ours: rows(*(weights[name] for name in theirs)) for ours, theirs in names.items()}


def rows(*matrices: Tensor) -> Tensor:
    """Put matrices of one shape below each other.

    Raises:
        UserError: Their shapes differ.
    """
    shapes = sorted({tuple(matrix.shape) for matrix in matrices})
    if len(shapes) > 1:
        raise UserError(f"Weights of shapes {shapes} were given. One shape is expected.")
    return torch.cat(matrices) if len(matrices) > 1 else matrices[0]


def computed(
    module: nn.Module, x: Tensor, weights: Tensor | dict[str, Tensor], *more: object
) -> Tensor:
    """Call a module with weights in place of its own; gradients flow to them.

    Raises:
        UserError: A weight has another shape than the module's.
    """
    weights = {"weight": weights} if isinstance(weights, Tensor) else weights
    check_shapes(module, weights)
    result: Tensor = functional_call(module, weights, (x, *more))
    return result


def check_shapes(module: nn.Module, weights: Weights) -> None:
    """Check that weights have the shapes of a module's parameters.

    Raises:
        UserError: One has another shape.
    """
    for name, own in module.named_parameters():
        if weights[name].shape != own.shape:
            raise UserError(
                f"The weights have shape {tuple(weights[name].shape)} for {name}. The sizes that "
                f"were given expect {tuple(own.shape)}."
            )
