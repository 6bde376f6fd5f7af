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
    memory does not grow with B x T x V. Small logits in float32 are stored, which is as fast unless
    the head is frozen. A GPU has a function of its own, `gpu_cross_entropy`.

    Source: "Cut Your Losses in Large-Vocabulary Language Models", section 3, for the observation.
        The gradients of a linear layer under a softmax are in textbooks.
    """
    flat = targets.flatten()
    is_small = targets.numel() * len(head) <= LOGITS_AT_ONCE
    is_rounded = hidden.dtype != _exact(hidden.dtype) and not torch.compiler.is_compiling()
    if _takes_gpu_loss(hidden):
        total = gpu_cross_entropy(hidden.flatten(0, 1), head, flat)
    elif is_small and not is_rounded and (head.requires_grad or not hidden.requires_grad):
        return cross_entropy(hidden @ head.T, targets, reduction=reduction)
    else:
        if not torch.is_grad_enabled():
            head = head.detach()  # in the function below, a parameter would still need a gradient
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
        ignored = (targets == IGNORE_INDEX)[:, None]  # (N, 1)
        targets = targets.clamp(min=0)[:, None].long()
        # Ignored positions are left out here and not in the much larger gradient of the logits.
        inputs = hidden.masked_fill(ignored, 0.0) if ctx.needs_input_grad[1] else hidden
        nats = hidden.new_empty((len(hidden), 1), dtype=_exact(hidden.dtype))
        d_hidden = torch.empty_like(hidden) if needs_gradient else None  # (N, C)
        d_head: Tensor | None = None  # (V, C)
        for part in _parts(len(hidden), len(head), LOGITS_BYTES // hidden.element_size()):
            logits = hidden[part] @ head.T  # (rows, V)
            _softmax_in_place(logits, targets[part], nats[part], minus_target=needs_gradient)
            if d_hidden is not None:
                torch.mm(logits, head, out=d_hidden[part])
            if ctx.needs_input_grad[1]:  # a frozen head needs none
                d_head = _plus_product(d_head, logits.T, inputs[part])
        if d_hidden is not None:
            d_hidden.masked_fill_(ignored, 0.0)
        ctx.gradients = d_hidden, d_head
        return nats.masked_fill_(ignored, 0.0).sum()

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, Tensor | None, None]:
        d_hidden, d_head = ctx.gradients
        if d_head is not None:
            d_head = d_head.to(d_hidden.dtype) * outer
        return d_hidden * outer, d_head, None


def _softmax_in_place(
    logits: Float[Tensor, "N V"],
    targets: Int[Tensor, "N 1"],
    nats: Float[Tensor, "N 1"],
    *,
    minus_target: bool,
) -> None:
    """Write the loss of each position, and the gradient of the logits into their memory.

    The gradient is the softmax minus one at the target. Exact numbers exist of a few rows at a
    time, which stay in the cache.
    """
    exact = _exact(logits.dtype)
    rows = max(1, torch.get_num_threads() * _CACHED_LOGITS // logits.shape[1])
    parts = (torch.split(tensor, rows) for tensor in (logits, targets, nats))
    for block, some, its_nats in zip(*parts, strict=True):
        z = block.to(exact)  # (rows, V)
        highest = z.amax(dim=-1, keepdim=True)
        torch.sub(highest, z.gather(1, some), out=its_nats)
        torch.softmax(z, dim=-1, out=z)
        # The probability of the highest logit is 1 / sum(exp(z - highest)).
        its_nats -= z.amax(dim=-1, keepdim=True).log()
        if minus_target:
            z.scatter_add_(1, some, z.new_full((len(z), 1), -1.0))
            if z.dtype != block.dtype:
                block.copy_(z)


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
    parts = (torch.split(tensor, _ROWS_ADDED) for tensor in (total, left @ right))
    for some, more in zip(*parts, strict=True):
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
