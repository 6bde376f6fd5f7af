"""The loss: cross-entropy of the next token, in nats."""

from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from groundup.base.targets import IGNORE_INDEX
from groundup.model.count import LOGITS_AT_ONCE
from groundup.model.gpu_loss import gpu_cross_entropy


def cross_entropy(
    logits: Float[Tensor, "*N V"],
    targets: Int[Tensor, "*N"],
    *,
    ignore_index: int = IGNORE_INDEX,
    reduction: Literal["mean", "sum"] = "mean",
) -> Float[Tensor, ""]:
    """Compute -log softmax(logits)[target] in nats, over any leading dimensions.

    In float32, or in float64 if the logits are. "mean" divides by the number of counted targets,
    and is NaN if there are none. For micro-batches with unequal numbers of targets, add the "sum"
    of each and divide by the total number once.

    Args:
        logits: One value per token of the vocabulary.
        targets: The correct tokens.
        ignore_index: Targets with this value are not counted.
        reduction: "mean" or "sum" over the counted targets.

    Raises:
        IndexError: A target is not in the vocabulary (on a CPU).

    >>> import torch
    >>> round(cross_entropy(torch.zeros(1, 3, 7), torch.tensor([[0, 6, -100]])).item(), 4)  # ln 7
    1.9459
    """
    return F.cross_entropy(
        logits.reshape(-1, logits.shape[-1]).to(_exact(logits.dtype)),
        targets.flatten().long(),
        ignore_index=ignore_index,
        reduction=reduction,
    )


def _exact(dtype: torch.dtype) -> torch.dtype:
    """Number format of sums over the vocabulary: bfloat16 would lose small terms."""
    return torch.promote_types(dtype, torch.float32)


def head_cross_entropy(
    hidden: Float[Tensor, "B T C"],
    head: Float[Tensor, "V C"],
    targets: Int[Tensor, "B T"],
    *,
    reduction: Literal["mean", "sum"] = "mean",
) -> Float[Tensor, ""]:
    """Compute `cross_entropy` of the logits `hidden @ head.T` without storing all of them.

    With a large vocabulary the logits are by far the largest tensor of a training step. This
    function computes the logits of some positions at a time, and both gradients at once, so the
    memory does not grow with B x T x V. Small logits are computed in one product, which is faster
    unless the head is frozen. A GPU has a function of its own, `gpu_cross_entropy`.

    Source: "Cut Your Losses in Large-Vocabulary Language Models", section 3, for the observation.
        The gradients of a linear layer under a softmax are in textbooks.
    """
    flat = targets.flatten()
    is_small = targets.numel() * len(head) <= LOGITS_AT_ONCE
    if _takes_gpu_loss(hidden):
        total = gpu_cross_entropy(hidden.flatten(0, 1), head, flat)
    elif is_small and (head.requires_grad or not hidden.requires_grad):
        return cross_entropy(hidden @ head.T, targets, reduction=reduction)
    else:
        total = _HeadCrossEntropy.apply(  # type: ignore[no-untyped-call]
            hidden.flatten(0, 1), head, flat
        )
    return total if reduction == "sum" else total / (flat != IGNORE_INDEX).sum()


def _takes_gpu_loss(hidden: Tensor) -> bool:
    return hidden.is_cuda


class _HeadCrossEntropy(torch.autograd.Function):
    """Sum of the cross-entropy over positions; the forward pass computes both gradients."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        needs_gradient = any(ctx.needs_input_grad)
        counted = targets != IGNORE_INDEX
        targets = targets.clamp(min=0)[:, None].long()
        exact = _exact(hidden.dtype)
        total = hidden.new_zeros((), dtype=exact)
        d_hidden = torch.empty_like(hidden) if needs_gradient else None  # (B T, C)
        # A frozen head needs none.
        d_head = torch.zeros_like(head, dtype=exact) if ctx.needs_input_grad[1] else None  # (V, C)
        for part in _parts(len(hidden), len(head)):
            logits = (hidden[part] @ head.T).to(exact)  # (rows, V)
            sums = logits.logsumexp(dim=-1, keepdim=True)  # (rows, 1)
            nats = (sums - logits.gather(1, targets[part])).squeeze(1)  # (rows,)
            total += nats[counted[part]].sum()
            if d_hidden is not None:
                # softmax(logits) minus one at the target, and zero at ignored targets.
                gradient = logits.sub_(sums).exp_()  # (rows, V), in the memory of the logits
                gradient.scatter_add_(1, targets[part], gradient.new_full((len(nats), 1), -1.0))
                gradient = (gradient * counted[part, None]).to(hidden.dtype)
                torch.mm(gradient, head, out=d_hidden[part])
                if d_head is not None:
                    d_head += gradient.T @ hidden[part]
        ctx.gradients = d_hidden, d_head
        return total

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, Tensor | None, None]:
        d_hidden, d_head = ctx.gradients
        if d_head is not None:
            d_head = (d_head * outer).to(d_hidden.dtype)
        return d_hidden * outer.to(d_hidden.dtype), d_head, None


def head_log_probabilities(
    hidden: Float[Tensor, "N C"], head: Float[Tensor, "V C"], targets: Int[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """Compute log softmax(hidden @ head.T)[target] for each position, in nats.

    As in `head_cross_entropy`, the memory does not grow with N x V: the logits of some positions
    are computed at a time, and again in the backward pass.
    """
    found: Tensor = _HeadLogProbabilities.apply(hidden, head, targets)  # type: ignore[no-untyped-call]
    return found


class _HeadLogProbabilities(torch.autograd.Function):
    """The log probability of each target; the backward pass computes the logits again."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        targets = targets[:, None].long()
        exact = _exact(hidden.dtype)
        sums = hidden.new_empty((len(hidden), 1), dtype=exact)  # (N, 1)
        chosen = torch.empty_like(sums)
        for part in _parts(len(hidden), len(head)):
            logits = (hidden[part] @ head.T).to(exact)  # (rows, V)
            sums[part] = logits.logsumexp(dim=-1, keepdim=True)
            chosen[part] = logits.gather(1, targets[part])
        ctx.save_for_backward(hidden, head, targets, sums)
        return (chosen - sums).squeeze(1)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, Tensor | None, None]:
        hidden, head, targets, sums = ctx.saved_tensors
        d_hidden = torch.empty_like(hidden)  # (N, C)
        d_head = torch.zeros_like(head, dtype=sums.dtype) if ctx.needs_input_grad[1] else None
        for part in _parts(len(hidden), len(head)):
            logits = (hidden[part] @ head.T).to(sums.dtype)  # (rows, V)
            # One at the target, minus softmax(logits).
            gradient = logits.sub_(sums[part]).exp_().neg_()
            gradient.scatter_add_(1, targets[part], gradient.new_ones((len(gradient), 1)))
            gradient = (gradient * outer[part, None]).to(hidden.dtype)
            torch.mm(gradient, head, out=d_hidden[part])
            if d_head is not None:
                d_head += gradient.T @ hidden[part]
        return d_hidden, None if d_head is None else d_head.to(head.dtype), None


def _parts(n_positions: int, vocab_size: int) -> Iterator[slice]:
    """The positions whose logits are computed at the same time."""
    rows = max(1, LOGITS_AT_ONCE // vocab_size)
    for start in range(0, n_positions, rows):
        yield slice(start, start + rows)
