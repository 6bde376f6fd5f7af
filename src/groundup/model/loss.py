"""The loss: cross-entropy of the next token, in nats."""

from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from groundup.base.targets import IGNORE_INDEX
from groundup.model.count import LOGITS_AT_ONCE, LOGITS_BYTES
from groundup.model.gpu_loss import gpu_cross_entropy

_CACHED_LOGITS, _ROWS_ADDED = 2**19, 2**10
"""Logits in float32 that fit in the cache of a core, and rows of the head's gradient."""


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
        hidden, counted = hidden.flatten(0, 1), flat != IGNORE_INDEX
        if not bool(counted.all()):
            hidden, flat = hidden[counted], flat[counted]
        if not torch.is_grad_enabled():
            head = head.detach()  # a parameter counts as one that needs a gradient here, too
        total = _HeadCrossEntropy.apply(hidden, head, flat)  # type: ignore[no-untyped-call]
    return total if reduction == "sum" else total / (flat != IGNORE_INDEX).sum()


def _takes_gpu_loss(hidden: Tensor) -> bool:
    return hidden.is_cuda


class _HeadCrossEntropy(torch.autograd.Function):
    """Sum of the cross-entropy over positions; the forward pass computes both gradients."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        needs_gradient = any(ctx.needs_input_grad)
        total = hidden.new_zeros((), dtype=_exact(hidden.dtype))
        d_hidden = torch.empty_like(hidden) if needs_gradient else None  # (N, C)
        d_head: Tensor | None = None  # (V, C)
        for part in _parts(len(hidden), len(head), LOGITS_BYTES // hidden.element_size()):
            logits = hidden[part] @ head.T  # (rows, V)
            total += _sum_of_nats(logits, targets[part], with_gradient=needs_gradient)
            if d_hidden is not None:
                torch.mm(logits, head, out=d_hidden[part])
            if ctx.needs_input_grad[1]:  # a frozen head needs none
                d_head = _plus_product(d_head, logits.T, hidden[part])
        ctx.gradients = d_hidden, d_head
        return total

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, Tensor | None, None]:
        d_hidden, d_head = ctx.gradients
        if d_head is not None:
            d_head = d_head.to(d_hidden.dtype) * outer
        return d_hidden * outer, d_head, None


def _sum_of_nats(
    logits: Float[Tensor, "N V"], targets: Int[Tensor, " N"], *, with_gradient: bool
) -> Float[Tensor, ""]:
    """Sum the cross-entropy. Replace the logits by its gradient: softmax, minus 1 at the target.

    The exact numbers of a few rows at a time fit in the cache, so the memory is read and written
    once.
    """
    exact, V = _exact(logits.dtype), logits.shape[1]
    total = logits.new_zeros((), dtype=exact)
    rows = max(1, torch.get_num_threads() * _CACHED_LOGITS // V)
    for block, some in zip(logits.split(rows), targets[:, None].long().split(rows), strict=True):
        z = block.to(exact)  # (rows, V)
        highest = z.amax(dim=-1, keepdim=True)
        below = highest - z.gather(1, some)  # (rows, 1)
        torch.softmax(z, dim=-1, out=z)
        # The probability of the highest logit is 1 / sum(exp(z - highest)).
        total += (below - z.amax(dim=-1, keepdim=True).log()).sum()
        if with_gradient:
            z.scatter_add_(1, some, z.new_full((len(z), 1), -1.0))
            if z.dtype != block.dtype:
                block.copy_(z)
    return total


def _plus_product(
    total: Float[Tensor, "V C"] | None, left: Float[Tensor, "V N"], right: Float[Tensor, "N C"]
) -> Float[Tensor, "V C"]:
    """total + left @ right. Products in bfloat16 are added in float32."""
    if total is None:
        return left @ right
    exact = _exact(left.dtype)
    if left.dtype == exact:
        return total.addmm_(left, right)
    total = total.to(exact)
    # Adding numbers of two formats makes a copy: of some rows it stays in the cache.
    for some, more in zip(total.split(_ROWS_ADDED), (left @ right).split(_ROWS_ADDED), strict=True):
        some += more
    return total


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
        for part in _parts(len(hidden), len(head), LOGITS_AT_ONCE):
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
        for part in _parts(len(hidden), len(head), LOGITS_AT_ONCE):
            logits = (hidden[part] @ head.T).to(sums.dtype)  # (rows, V)
            # One at the target, minus softmax(logits).
            gradient = logits.sub_(sums[part]).exp_().neg_()
            gradient.scatter_add_(1, targets[part], gradient.new_ones((len(gradient), 1)))
            gradient = (gradient * outer[part, None]).to(hidden.dtype)
            torch.mm(gradient, head, out=d_hidden[part])
            if d_head is not None:
                d_head += gradient.T @ hidden[part]
        return d_hidden, None if d_head is None else d_head.to(head.dtype), None


def _parts(n_positions: int, vocab_size: int, at_once: int) -> Iterator[slice]:
    """The positions whose logits are computed at the same time, in parts of nearly equal size."""
    n_parts = max(1, -(-n_positions // max(1, at_once // vocab_size)))
    rows = max(1, -(-n_positions // n_parts))
    for start in range(0, max(1, n_positions), rows):
        yield slice(start, start + rows)
