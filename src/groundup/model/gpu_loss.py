"""The loss on a GPU: few large matrix products, and the softmax and its gradient in one pass.

A GPU multiplies matrices whose sizes are multiples of 64 or 128 several percent faster. So the head
gets rows of zeros inside this function, and the logits of these rows are minus infinity: neither
the loss nor a gradient sees them, and no other code does. `torch.compile` makes one kernel of the
softmax and its gradient, and the whole function becomes a part of the graph of the step.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from groundup.base.targets import IGNORE_INDEX
from groundup.model.count import HEAD_ROWS, gpu_loss_rows


def gpu_cross_entropy(
    hidden: Float[Tensor, "N C"], head: Float[Tensor, "V C"], targets: Int[Tensor, " N"]
) -> Float[Tensor, ""]:
    """Compute the sum of the cross-entropy over the targets that are not ignored, in nats.

    The forward pass computes both gradients, so no logits are kept for the backward pass. Compiled,
    all logits are computed at once; otherwise those of a part of the positions.

    >>> zeros = torch.zeros(3, 2), torch.zeros(7, 2), torch.tensor([0, 6, -100])
    >>> round(gpu_cross_entropy(*zeros).item(), 4)  # 2 ln 7
    3.8918
    """
    rows = gpu_loss_rows(len(head), compiled=torch.compiler.is_compiling())
    with_gradients = torch.is_grad_enabled()
    needs_hidden = with_gradients and hidden.requires_grad
    needs_head = with_gradients and head.requires_grad
    total: Tensor = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden, head, targets, rows, needs_hidden, needs_head
    )
    return total


class _CrossEntropy(torch.autograd.Function):
    """The sum over the positions; its forward pass computes the gradients that are needed."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        targets: Tensor,
        rows: int,
        needs_hidden: bool,
        needs_head: bool,
    ) -> Tensor:
        V = len(head)
        padded = F.pad(head, (0, 0, 0, -V % HEAD_ROWS))  # (V padded, C)
        exact = torch.promote_types(hidden.dtype, torch.float32)
        counted = (targets != IGNORE_INDEX)[:, None]  # (N, 1)
        targets = targets.clamp(min=0)[:, None].long()
        total = hidden.new_zeros((), dtype=exact)
        parts: list[Tensor] = []
        d_head: Tensor | None = None
        several = len(hidden) > rows
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            nats, gradient = _nats_and_gradient(
                hidden[part] @ padded.T, targets[part], V, needs_gradient=needs_hidden or needs_head
            )
            total = total + nats.masked_fill(~counted[part], 0.0).sum()
            # Ignored positions are left out here and not in the much larger gradient.
            if gradient is not None and needs_hidden:
                parts.append((gradient @ padded).masked_fill(~counted[part], 0.0))
            if gradient is not None and needs_head:
                inputs = hidden[part].masked_fill(~counted[part], 0.0)
                if not several:
                    d_head = gradient.T @ inputs  # (V padded, C)
                else:
                    d_head = padded.new_zeros(padded.shape, dtype=exact) if start == 0 else d_head
                    assert d_head is not None
                    d_head = _plus_product(d_head, gradient.T, inputs)
            del gradient  # (rows, V padded); the next part needs its memory
        d_hidden = None if not parts else parts[0] if len(parts) == 1 else torch.cat(parts)
        ctx.save_for_backward(d_hidden, None if d_head is None else d_head[:V])
        ctx.head_dtype = head.dtype
        return total

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_head = ctx.saved_tensors
        if d_hidden is not None:
            d_hidden = d_hidden * outer.to(d_hidden.dtype)
        if d_head is not None:
            d_head = (d_head * outer).to(ctx.head_dtype)
        return d_hidden, d_head, None, None, None, None


def _nats_and_gradient(
    logits: Float[Tensor, "N W"], targets: Int[Tensor, "N 1"], V: int, *, needs_gradient: bool
) -> tuple[Float[Tensor, "N 1"], Float[Tensor, "N W"] | None]:
    """The loss of each position, and softmax(logits) minus one at the target.

    The logits from V on are those of the padding.
    """
    logits[:, V:] = -torch.inf
    exact = torch.promote_types(logits.dtype, torch.float32)
    logs = F.log_softmax(logits, dim=-1, dtype=exact)  # (N, W)
    nats = -logs.gather(1, targets)  # (N, 1)
    if not needs_gradient:
        return nats, None
    if torch.compiler.is_compiling():  # one kernel; a scatter would be a second one
        is_target = torch.arange(logits.shape[1], device=logits.device) == targets  # (N, W)
        return nats, (logs.exp() - is_target.to(exact)).to(logits.dtype)
    gradient = logs.exp_()
    gradient.scatter_add_(1, targets, gradient.new_full((len(targets), 1), -1.0))
    return nats, gradient.to(logits.dtype)


def _plus_product(
    total: Float[Tensor, "V C"], left: Float[Tensor, "V N"], right: Float[Tensor, "N C"]
) -> Float[Tensor, "V C"]:
    """total + left @ right. Of bfloat16 factors the product is added before it is rounded."""
    if total.dtype == left.dtype:
        return torch.addmm(total, left, right)
    if total.is_cuda and torch.compiler.is_compiling():  # torch 2.11 cannot compile the next one
        return total + torch.mm(left, right, out_dtype=total.dtype)
    if total.is_cuda:
        return torch.addmm(total, left, right, out_dtype=total.dtype)
    return total + (left @ right).to(total.dtype)
