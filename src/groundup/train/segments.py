"""One exact optimizer step in segments of time, for windows whose activations do not fit in memory.

The forward pass computes one segment after the other, without gradients, and keeps only the states
between them: what each layer hands on to the next positions. The backward pass goes from the last
segment to the first. It computes each one again, with gradients, from the state before it, and
starts from the loss of the segment and from the gradient of the state after it. What it finds for
the state before it belongs to the segment before. Nothing is truncated: the gradients are those of
the whole window, for one more forward pass.

Source: "Training Deep Nets with Sublinear Memory Cost", section 3, along time instead of depth.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from groundup.base.targets import IGNORE_INDEX
from groundup.evaluation.loss import segment_loss
from groundup.model.gpt import GPT
from groundup.model.state import TextState
from groundup.train.precision import MixedPrecision

LARGEST_KEPT_BYTES = 2**23
"""Larger tensors, kept for reuse, would fragment the heap more with each segment. Measured."""


class SegmentedLoss(MixedPrecision):
    """The loss of a model in mixed precision, computed in segments of time.

    Args:
        model: A language model.
        dtype: See `MixedPrecision`.
        segment: S, number of positions that are computed at a time.

    >>> from groundup.model.config import GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=11, d_model=16, n_layers=1, n_heads=2), seed=1)
    >>> loss = SegmentedLoss(model, torch.float32, segment=2)
    >>> round(loss(torch.tensor([[1, 2, 3]]), torch.tensor([[2, 3, 4]])).item(), 2)
    2.61
    """

    def __init__(self, model: GPT, dtype: torch.dtype, segment: int) -> None:
        super().__init__(model, dtype)
        self.segment, self.dropout, self.kinds = segment, model.config.dropout, model.config.kinds

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        targets: Int[Tensor, "B T"],
        lengths: Int[Tensor, "B D"] | None = None,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> Float[Tensor, ""]:
        """Cross-entropy in nats, as `GPT.loss`; the documents of a window are not separated."""
        assert lengths is None, "refused with the settings"
        weights = self.trained() if torch.is_grad_enabled() else []
        total: Tensor = _InSegments.apply(  # type: ignore[no-untyped-call]
            self, ids, targets, *weights
        )
        return total if reduction == "sum" else total / (targets != IGNORE_INDEX).sum()

    def trained(self) -> list[nn.Parameter]:
        """The parameters that get gradients."""
        return [weight for weight in self.model.parameters() if weight.requires_grad]

    def advance(self, ids: Tensor, targets: Tensor, state: TextState) -> tuple[Tensor, TextState]:
        """Compute the summed loss of a segment, and the state after it."""
        return self.run(segment_loss, ids, targets, state)

    def parts(self, n_positions: int) -> list[slice]:
        """Return the positions of each segment."""
        return [slice(i, i + self.segment) for i in range(0, n_positions, self.segment)]


class _InSegments(torch.autograd.Function):
    """The summed loss of a batch, as a function of the parameters."""

    @staticmethod
    def forward(ctx: Any, loss: SegmentedLoss, ids: Tensor, targets: Tensor, *_: Tensor) -> Tensor:
        kept: list[tuple[TextState, list[Tensor]]] = []
        state = TextState.start(loss.kinds, ids)
        total = torch.zeros((), device=ids.device, dtype=torch.float64)
        draws = loss.model.training and loss.dropout > 0
        parts = loss.parts(ids.shape[1])
        storage = _Storage(len(parts))
        for here in parts:
            if any(ctx.needs_input_grad):
                state, random = storage.take(state, _random_states(ids.device) if draws else [])
                kept.append((state, random))
            nats, state = loss.advance(ids[:, here], targets[:, here], state)
            total += nats
        ctx.loss, ctx.kept = loss, kept
        ctx.save_for_backward(ids, targets)
        return total.to(nats.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        loss: SegmentedLoss = ctx.loss
        ids, targets = ctx.saved_tensors
        weights = loss.trained()
        gradients = [torch.zeros_like(weight) for weight in weights]
        d_after: list[Tensor] = []  # that of the state after the last segment is zero
        for here in reversed(loss.parts(ids.shape[1])):
            kept, random = ctx.kept.pop()
            with _replayed(random, ids.device):
                d_after = _backward(
                    loss, ids[:, here], targets[:, here], kept, outer, d_after, gradients
                )
        return None, None, None, *gradients


def _backward(
    loss: SegmentedLoss,
    ids: Tensor,
    targets: Tensor,
    before: TextState,
    outer: Tensor,
    d_after: list[Tensor],
    gradients: list[Tensor],
) -> list[Tensor]:
    """Add to the gradients of the weights; return that of the state before the segment."""
    weights, state = loss.trained(), before.as_leaves()
    with torch.enable_grad():
        nats, after = loss.advance(ids, targets, state)
    leaves = state.tensors()
    found = torch.autograd.grad(
        (nats, *after.tensors()[: len(d_after)]),
        (*weights, *leaves),
        (outer.to(nats.dtype), *d_after),
        allow_unused=True,
    )
    for gradient, more in zip(gradients, found, strict=False):
        if more is not None:
            gradient += more
    d_before = zip(leaves, found[len(weights) :], strict=True)
    return [torch.zeros_like(leaf) if d_leaf is None else d_leaf for leaf, d_leaf in d_before]


class _Storage:
    """Memory for what all segments keep, allocated at once.

    A state may be a view of a much larger tensor, such as the matrices of all chunks of a segment.
    And what stays allocated between large tensors that are freed fragments the heap, however small
    it is: the objects of the tensors, too, are made before.
    """

    def __init__(self, n_segments: int) -> None:
        self._n_left = n_segments
        self._rows: list[tuple[Tensor, ...]] = []
        self._shapes: list[torch.Size] = []

    def take(self, state: TextState, random: list[Tensor]) -> tuple[TextState, list[Tensor]]:
        """Copy what a segment keeps, once the shapes are the same as those before.

        Args:
            state: The state before the segment.
            random: The states of the random number generators.
        """
        tensors = [*random, state.ids, *state.tensors()]
        shapes = [tensor.shape for tensor in tensors]
        if shapes != self._shapes:  # the first states of a window grow
            self._shapes, self._rows = shapes, []
            self._n_left -= 1
            return state, random
        if not self._rows:
            rows = (x.new_empty(self._n_left, *x.shape).unbind() for x in tensors)
            self._rows = list(zip(*rows, strict=True))
        self._n_left -= 1
        copies = [to.copy_(x) for to, x in zip(self._rows.pop(), tensors, strict=True)]
        n = len(random)
        kept = replace(state, ids=copies[n])
        return kept.with_tensors(copies[n + 1 :]), copies[:n]


@contextmanager
def _replayed(states: list[Tensor], device: torch.device) -> Iterator[None]:
    """Draw the random numbers that followed `_random_states`; those after the block are others."""
    if not states:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.set_rng_state(states[0].clone())  # torch 2.13 crashes with a row of a larger tensor
        if device.type == "cuda":
            torch.cuda.set_rng_state(states[1].clone(), device)
        yield


def _random_states(device: torch.device) -> list[Tensor]:
    on_gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_gpu]
