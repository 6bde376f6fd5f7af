"""Activation checkpointing: a block stores its input only; its backward pass computes it again."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from groundup.model.packed import Documents


def recomputed(
    block: nn.Module,
    x: Float[Tensor, "B T C"],
    rotary: tuple[Tensor, Tensor] | None,
    documents: Documents | None = None,
) -> Float[Tensor, "B T C"]:
    """Run a block with activation checkpointing: its backward pass computes it again.

    Source: "Training Deep Nets with Sublinear Memory Cost", section 3.
    """
    others = (rotary, None, documents)
    weights: dict[str, Tensor] = dict(block.named_parameters())

    def with_current_weights(x: Tensor) -> Tensor:
        result: Tensor = functional_call(block, weights, (x, *others))
        return result

    # In mixed precision the block holds rounded copies of the weights only during the forward pass.
    # The closure keeps them for the recomputation.
    are_copies = not all(isinstance(weight, nn.Parameter) for weight in weights.values())
    run = with_current_weights if are_copies else block
    result: Tensor = checkpoint(run, x, *(() if are_copies else others), use_reentrant=False)
    return result
