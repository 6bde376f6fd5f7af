"""The gated delta rule: attention without a softmax, with a state of fixed size.

The state of a head is a matrix S that maps keys to values. At each position it decays, what it
stores under the key is replaced by a mixture with the value, and it is read by the query:

    S <- exp(decay) S;   S <- S + rate k (v - S^T k)^T;   output = S^T q / sqrt(D)

`gated_delta_rule` computes chunks of positions by products of matrices; `delta_step` is the formula
above. Only the inputs and a few states are stored for the backward pass, which computes one span of
chunks at a time again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from groundup.model.count import DELTA_AT_ONCE, DELTA_AT_ONCE_ON_GPU
from groundup.model.count import DELTA_CHUNK as CHUNK
from groundup.model.uncompiled import not_compiled

_EPS = 1e-6
"""Keeps a query or a key of length zero from dividing by zero, as in transformers."""


@dataclass(frozen=True)
class _Span:
    """Some chunks of every head: what both passes need. N heads and rows, n chunks, C positions."""

    q: Float[Tensor, "N n C D"]
    k: Float[Tensor, "N n C D"]
    v: Float[Tensor, "N n C D"]
    q_scale: Float[Tensor, "N n C 1"]
    k_scale: Float[Tensor, "N n C 1"]
    """One over the length, times one over sqrt(D) for queries."""
    rate: Float[Tensor, "N n C 1"]
    pairs: Float[Tensor, "N n C C"]
    """Decay from the position of the column to that of the row, 0 above the diagonal."""
    from_start: Float[Tensor, "N n C 1"]
    """Decay from the start of the chunk to a position, itself included."""
    to_end: Float[Tensor, "N n C 1"]
    """Decay from after a position to the end of the chunk."""
    whole: Float[Tensor, "N n 1 1"]
    """Decay over the chunk."""
    links: Float[Tensor, "N n C C"]
    """How much the value of a row depends on the one of an earlier column."""
    inverse: Float[Tensor, "N n C C"]
    """(1 + links)^-1."""
    scores: Float[Tensor, "N n C C"]
    """Products of queries and keys of the same chunk, with their decay."""
    new: Float[Tensor, "N n C D"]
    """What is written if the state before is zero."""
    known: Float[Tensor, "N n C D"]
    """The keys by which it depends on the state before."""


def _span(part: list[Tensor], starts: Tensor | None, dtype: torch.dtype) -> _Span:
    """Compute what does not depend on the state; inputs are (B, t, H, D) and (B, t, H)."""
    t = part[0].shape[1]
    padding = -t % CHUNK  # with a rate of zero nothing is written
    vectors = [_chunks(F.pad(x.to(dtype), (0, 0, 0, 0, 0, padding))) for x in part[:3]]
    decay, rate = (_chunks(F.pad(x.to(dtype), (0, 0, 0, padding))[..., None]) for x in part[3:])
    q, k, v = vectors
    q_scale, k_scale = ((x.square().sum(-1, keepdim=True) + _EPS).rsqrt_() for x in (q, k))
    q_scale *= q.shape[-1] ** -0.5
    q, k = q * q_scale, k * k_scale
    total = decay.cumsum(2)  # (N, n, C, 1): log of the decay since the start of the chunk
    later = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=q.device).triu(1)
    pairs = (total - total.mT).masked_fill_(later, -torch.inf).exp_()
    from_start, to_end = total.exp(), (total[:, :, -1:] - total).exp_()
    if starts is not None:
        # Nothing passes from one document to the next.
        begun = F.pad(starts, (0, padding)).view(len(starts), -1, CHUNK, 1).cumsum(2)
        begun = begun.repeat_interleave(len(q) // len(starts), 0)  # (N, n, C, 1)
        pairs *= begun == begun.mT
        from_start *= begun == 0
        to_end *= begun == begun[:, :, -1:]
    whole = from_start[:, :, -1:]
    links = (((k * rate) @ k.mT).mul_(pairs)).tril_(-1)
    # The solution with the identity, because the backward pass needs the inverse, too.
    identity = torch.eye(CHUNK, dtype=dtype, device=q.device).expand_as(links)
    inverse = torch.linalg.solve_triangular(links, identity, upper=False, unitriangular=True)
    written = torch.cat((v * rate, k * (rate * from_start)), dim=-1)
    new, known = torch.split(inverse @ written, v.shape[-1], dim=-1)
    return _Span(
        q, k, v, q_scale, k_scale, rate, pairs, from_start, to_end, whole, links, inverse,
        scores=(q @ k.mT).mul_(pairs), new=new, known=known,
    )  # fmt: skip


def _chunks(x: Tensor) -> Tensor:
    """(B, t, H, D) to (B H, n, C, D)."""
    B, t, H, D = x.shape
    return x.transpose(1, 2).reshape(B * H, t // CHUNK, CHUNK, D)


def _positions(x: Tensor, like: Tensor) -> Tensor:
    """(B H, n, C, D) to (B, t, H, D) without padding."""
    B, t, H = like.shape[:3]
    return x.reshape(B, H, -1, x.shape[-1])[:, :, :t].transpose(1, 2)


def _scan(span: _Span, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the state before each chunk (N, n, D, D), what is written, and the last state."""
    keys = (span.k * span.to_end).mT  # (N, n, D, C)
    if _in_parallel(state):
        factors = _scaled_identity(span.whole, state) - keys @ span.known
        before_all, state = _recurrence(factors, keys @ span.new, state)
        return before_all, span.new - span.known @ before_all, state
    before, written = [], []
    for i in range(span.q.shape[1]):
        before.append(state)
        written.append(torch.baddbmm(span.new[:, i], span.known[:, i], state, alpha=-1))
        state = torch.baddbmm(span.whole[:, i] * state, keys[:, i], written[-1])
    return torch.stack(before, 1), torch.stack(written, 1), state


def _scan_back(
    span: _Span, d_written: Tensor, d_before: Tensor, dS: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the state after each chunk, of what is written, of the first state.

    Args:
        span: The chunks.
        d_written: Gradient of what is written, as far as the outputs of the chunk need it.
        d_before: The same of the state before each chunk.
        dS: Gradient of the state after the last chunk.
    """
    keys = span.k * span.to_end  # (N, n, C, D)
    if _in_parallel(dS):
        factors = _scaled_identity(span.whole, dS) - span.known.mT @ keys
        terms = d_before - span.known.mT @ d_written
        after_all, dS = _recurrence(factors.flip(1), terms.flip(1), dS)
        after_all = after_all.flip(1)
        return after_all, d_written + keys @ after_all, dS
    after = []
    for i in reversed(range(d_written.shape[1])):
        after.append(dS)
        d_written[:, i] += keys[:, i] @ dS
        dS = torch.baddbmm(span.whole[:, i] * dS, span.known[:, i].mT, d_written[:, i], alpha=-1)
        dS += d_before[:, i]
    return torch.stack(after[::-1], 1), d_written, dS


def _in_parallel(state: Tensor) -> bool:
    """Whether to compute all chunks at once, with twice the work: a GPU waits for single ones."""
    return state.is_cuda


def _scaled_identity(scale: Float[Tensor, "N n 1 1"], like: Tensor) -> Float[Tensor, "N n D D"]:
    return scale * torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)


def _recurrence(
    factors: Float[Tensor, "N n D D"],
    terms: Float[Tensor, "N n D D"],
    state: Float[Tensor, "N D D"],
) -> tuple[Float[Tensor, "N n D D"], Float[Tensor, "N D D"]]:
    """Compute S <- factor S + term for each of n pairs; return S before each, and the last one.

    Two steps in a row are one step with other matrices. So half as many steps give every second
    state, and the states between follow from those: about 2 log n products instead of n.

    Source: "Prefix Sums and Their Applications", section 1.4.
    """
    n = factors.shape[1]
    if n == 1:
        return state[:, None], factors[:, 0] @ state + terms[:, 0]
    if n % 2:
        before, last = _recurrence(factors[:, :-1], terms[:, :-1], state)
        return torch.cat((before, last[:, None]), 1), factors[:, -1] @ last + terms[:, -1]
    (first, second), (term, next_term) = ((x[:, ::2], x[:, 1::2]) for x in (factors, terms))
    even, last = _recurrence(second @ first, second @ term + next_term, state)
    odd = first @ even + term
    return torch.stack((even, odd), 2).flatten(1, 2), last


class _GatedDeltaRule(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        decay: Tensor,
        rate: Tensor,
        state: Tensor,
        starts: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        output, state = torch.empty_like(v), state.flatten(0, 1)  # (B H, D, D)
        states = []
        for part in _parts(q):
            states.append(state)
            inputs = [x[:, part] for x in (q, k, v, decay, rate)]
            span = _span(inputs, None if starts is None else starts[:, part], state.dtype)
            before, written, state = _scan(span, state)
            mixed = (span.q * span.from_start) @ before + span.scores @ written
            output[:, part] = _positions(mixed, inputs[0])
        ctx.save_for_backward(q, k, v, decay, rate, starts, *states)
        return output, state.view(len(q), -1, *state.shape[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_output: Tensor, d_state: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # read once: activation checkpointing allows no more
        *inputs, starts = saved[:6]
        states = saved[6:]
        gradients = [torch.empty_like(x) for x in inputs]
        dS = d_state.flatten(0, 1)
        for part, state in zip(reversed(_parts(inputs[0])), reversed(states), strict=True):
            here = [x[:, part] for x in inputs]
            span = _span(here, None if starts is None else starts[:, part], state.dtype)
            outer = F.pad(
                d_output[:, part].to(state.dtype), (0, 0, 0, 0, 0, -here[0].shape[1] % CHUNK)
            )
            *found, dS = _backward_of(span, state, _chunks(outer), dS)
            for total, each in zip(gradients, found, strict=True):
                each = _positions(each, here[0])
                total[:, part] = each if total.ndim == 4 else each.squeeze(-1)
        return *gradients, dS.view(len(inputs[0]), -1, *dS.shape[1:]), None


def _backward_of(span: _Span, state: Tensor, outer: Tensor, dS: Tensor) -> tuple[Tensor, ...]:
    """Gradients of queries, keys, values, decays, rates and of the state before the span."""
    before, written, _ = _scan(span, state)
    read = span.q * span.from_start
    d_after, d_written, dS = _scan_back(span, span.scores.mT @ outer, read.mT @ outer, dS)
    D = outer.shape[-1]
    d_solved = torch.cat((d_written, -d_written @ before.mT), -1)
    d_values, d_keys = torch.split(span.inverse.mT @ d_solved, D, dim=-1)  # of `written` in `_span`
    solved = torch.cat((span.new, span.known), -1)
    d_links = -(span.inverse.mT @ d_solved) @ solved.mT
    d_scores = (outer @ written.mT).tril_()
    d_links.tril_(-1)
    d_pairs = d_links * span.links + d_scores * span.scores  # of the log of `pairs`
    d_links *= span.pairs
    d_scores *= span.pairs
    d_read, d_stored = outer @ before.mT, written @ d_after.mT
    d_ratekey = d_keys * span.from_start + d_links @ span.k  # of rate times key
    dq = d_read * span.from_start + d_scores @ span.k
    dk = d_links.mT @ (span.k * span.rate) + d_scores.mT @ span.q + d_stored * span.to_end
    dk += d_ratekey * span.rate
    d_rate = (d_values * span.v + d_ratekey * span.k).sum(-1, keepdim=True)
    # The logs of the decays.
    d_start = span.from_start * (d_read * span.q + d_keys * span.k * span.rate).sum(-1, True)
    d_end = span.to_end * (d_stored * span.k).sum(-1, True)
    d_total = d_start - d_end + d_pairs.sum(-1, True) - d_pairs.sum(-2, True).mT
    d_whole = span.whole * (before * d_after).sum((-2, -1), keepdim=True)
    d_total[:, :, -1:] += d_end.sum(2, True) + d_whole
    d_decay = d_total.flip(2).cumsum(2).flip(2)
    return (
        _of_normalized(dq, span.q, span.q_scale),
        _of_normalized(dk, span.k, span.k_scale),
        d_values * span.rate,
        d_decay,
        d_rate,
        dS,
    )


def _of_normalized(gradient: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Gradient of x for y = scale x, where scale is a constant over the length of x."""
    squared = (y / scale).square().sum(-1, keepdim=True) + _EPS
    return scale * gradient - y / scale * ((gradient * y).sum(-1, True) / squared)


def _parts(q: Float[Tensor, "B T H D"]) -> list[slice]:
    """Divide the positions into spans."""
    B, T, H, D = q.shape
    at_once = DELTA_AT_ONCE_ON_GPU if q.is_cuda else DELTA_AT_ONCE
    length = max(1, at_once // (B * H * CHUNK * max(D, CHUNK))) * CHUNK
    return [slice(start, min(start + length, T)) for start in range(0, T, length)]


# A compiler would unroll the loop over chunks.
_apply: Callable[..., tuple[Tensor, Tensor]] = not_compiled(_GatedDeltaRule.apply)


def gated_delta_rule(
    queries: Float[Tensor, "B T H D"],
    keys: Float[Tensor, "B T H D"],
    values: Float[Tensor, "B T H D"],
    decay: Float[Tensor, "B T H"],
    rate: Float[Tensor, "B T H"],
    state: Float[Tensor, "B H D D"] | None = None,
    *,
    starts: Bool[Tensor, "B T"] | None = None,
) -> tuple[Float[Tensor, "B T H D"], Float[Tensor, "B H D D"]]:
    """Compute the gated delta rule in chunks; return the outputs and the state after the last.

    Args:
        queries: What each position reads by; it is scaled to the length 1 / sqrt(D).
        keys: What each position writes under; it is scaled to the length 1.
        values: What each position writes.
        decay: Log of the factor by which the state decays before a position, at most 0.
        rate: Fraction of what is stored under the key that is replaced, 0 to 1.
        state: The state before the first position. None: zero.
        starts: Positions at which a document starts: its state is zero.

    Source: "Gated Delta Networks: Improving Mamba2 with Delta Rule", section 3.3 and appendix A.
    """
    B, _, H, D = queries.shape
    exact = torch.promote_types(queries.dtype, torch.float32)
    if state is None:
        state = queries.new_zeros(B, H, D, D, dtype=exact)
    return _apply(queries, keys, values, decay, rate, state.to(exact), starts)


def delta_step(
    query: Float[Tensor, "B H D"],
    key: Float[Tensor, "B H D"],
    value: Float[Tensor, "B H D"],
    decay: Float[Tensor, "B H"],
    rate: Float[Tensor, "B H"],
    state: Float[Tensor, "B H D D"],
) -> tuple[Float[Tensor, "B H D"], Float[Tensor, "B H D D"]]:
    """Compute one position; the arguments are those of `gated_delta_rule`."""
    query, key, value = (x.to(state.dtype) for x in (query, key, value))
    query, key = (x * (x.square().sum(-1, keepdim=True) + _EPS).rsqrt() for x in (query, key))
    state = state * decay.exp()[..., None, None]
    stored = (key[..., None, :] @ state).squeeze(-2)  # (B, H, D)
    change = rate[..., None] * (value - stored)
    state = state + key[..., None] * change[..., None, :]
    read = (query[..., None, :] @ state).squeeze(-2)
    return read * query.shape[-1] ** -0.5, state
