"""Full attention of a text in segments: all keys and values in one buffer, with their gradients.

A segment attends to everything before it. If each one had a copy of the earlier keys, and of their
gradients, the memory would grow with the square of the text. Here every segment writes its keys
into one buffer, and its backward pass adds to one buffer of gradients. Segments are computed
backwards from the last one, so when a segment needs the gradient of its own keys, all later
segments have added theirs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from groundup.model.attention import attention_of_the_last

_QUERIES, _KEYS = 256, 1024
"""Queries and keys of one product."""


@dataclass(frozen=True)
class KeyState:
    """What a full layer knows of the positions before a segment: a part of a buffer."""

    buffer: "KeyBuffer"
    start: int = 0
    """Number of positions before the segment."""

    def attend(
        self,
        queries: Float[Tensor, "B H t D"],
        keys: Float[Tensor, "B G t D"],
        values: Float[Tensor, "B G t D"],
        *,
        dropout: float | int = 0.0,
    ) -> tuple[Float[Tensor, "B H t D"], "KeyState"]:
        """Store the keys and values of a segment, and attend to them and to all before them."""
        seed = int(torch.randint(2**62, ())) if dropout else 0
        mixed: Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
            queries, keys, values, self, dropout, seed
        )
        return mixed, KeyState(self.buffer, self.start + keys.shape[2])


class KeyBuffer:
    """The keys and values of one full layer at all positions of a text, and their gradients.

    Args:
        n_positions: T, number of positions of the whole text.
    """

    def __init__(self, n_positions: int) -> None:
        self.n_positions = n_positions
        self._stored: tuple[Tensor, Tensor] | None = None
        self._gradients: tuple[Tensor, Tensor] | None = None

    def store(self, start: int, keys: Tensor, values: Tensor) -> None:
        """Write the keys and values of the positions from `start` on."""
        if self._stored is None:
            shape = (*keys.shape[:2], self.n_positions, keys.shape[3])
            self._stored = keys.new_empty(shape), keys.new_empty(shape)
        for buffer, new in zip(self._stored, (keys, values), strict=True):
            buffer[:, :, start : start + new.shape[2]] = new

    def stored(self, stop: int) -> tuple[Float[Tensor, "B G S D"], Float[Tensor, "B G S D"]]:
        """View the keys and values before the position `stop`."""
        assert self._stored is not None
        keys, values = self._stored
        return keys[:, :, :stop], values[:, :, :stop]

    def gradients(self, stop: int) -> tuple[Float[Tensor, "B G S D"], Float[Tensor, "B G S D"]]:
        """View their gradients, in float32: sums over many segments."""
        if self._gradients is None:
            keys, _ = self.stored(self.n_positions)
            zeros = torch.zeros_like(keys, dtype=_exact(keys))
            self._gradients = zeros, zeros.clone()
        d_keys, d_values = self._gradients
        return d_keys[:, :, :stop], d_values[:, :, :stop]


def _exact(x: Tensor) -> torch.dtype:
    """Number format of sums over many positions."""
    return torch.promote_types(x.dtype, torch.float32)


class _Attention(torch.autograd.Function):
    """Causal attention of a segment to a buffer; the backward pass adds to its gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        state: KeyState,
        dropout: float,
        seed: int,
    ) -> Tensor:
        state.buffer.store(state.start, keys, values)
        ctx.buffer, ctx.stop = state.buffer, state.start + keys.shape[2]
        stored = state.buffer.stored(ctx.stop)
        if queries.is_cuda and queries.dtype != torch.float32:
            ctx.part = _Flash(queries, *stored, dropout=dropout)
        else:
            ctx.part = _Tiles(queries, *stored, dropout=dropout, seed=seed)
        mixed: Tensor = ctx.part.mixed
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        d_keys, d_values = ctx.buffer.gradients(ctx.stop)
        d_queries = ctx.part.backward(outer, d_keys, d_values)
        t = outer.shape[2]
        own = (x[:, :, -t:].to(outer.dtype) for x in (d_keys, d_values))
        return d_queries, *own, None, None, None


class _Flash:
    """Attention by torch's flash attention, for a GPU."""

    def __init__(self, queries: Tensor, keys: Tensor, values: Tensor, *, dropout: float) -> None:
        with torch.enable_grad():
            queries, keys, values = (x.detach().requires_grad_() for x in (queries, keys, values))
            self._mixed = attention_of_the_last(queries, keys, values, dropout=dropout)
        self.leaves = (queries, keys, values)
        self.mixed = self._mixed.detach()

    def backward(self, outer: Tensor, d_keys: Tensor, d_values: Tensor) -> Tensor:
        """Add to the gradients of keys and values; return that of the queries."""
        d_queries, *others = torch.autograd.grad(self._mixed, self.leaves, outer)
        d_keys += others[0]
        d_values += others[1]
        return d_queries


class _Tiles:
    """Attention in tiles of queries and keys, whose scores are never stored all at once.

    Source: "FlashAttention: Fast and Memory-Efficient Exact Attention", algorithms 1 and 4.
    """

    def __init__(
        self, queries: Tensor, keys: Tensor, values: Tensor, *, dropout: float, seed: int
    ) -> None:
        self.queries, self.keys, self.values = queries, keys, values
        self.dropout, self.seed = dropout, seed
        self.exact = _exact(queries)
        self.n_groups = keys.shape[1]
        self.before = keys.shape[2] - queries.shape[2]
        self.mixed, self.log_sums = self._forward()  # (B, H, t, D), (B, H, t)

    def _forward(self) -> tuple[Tensor, Tensor]:
        """Return the mixed values, and the log of the sum under each softmax."""
        B, H, t, D = self.queries.shape
        mixed = torch.empty_like(self.queries)
        sums = self.queries.new_empty(B, H, t, dtype=self.exact)
        random = self._random()
        for here in self._query_tiles():
            q = self._by_group(self.queries, here)  # (B, G, R n, D)
            top = q.new_full((*q.shape[:3], 1), -torch.inf, dtype=self.exact)
            total, mix = torch.zeros_like(top), torch.zeros_like(q, dtype=self.exact)
            for seen in self._key_tiles(here):
                scores = self._scores(q, here, seen)
                higher = torch.maximum(top, scores.amax(-1, keepdim=True))
                weights = scores.sub_(higher).exp_()
                shrink = (top - higher).exp_()
                total = total * shrink + weights.sum(-1, keepdim=True)
                kept = self._kept(weights, random)
                weights = weights if kept is None else weights * kept
                mix = mix * shrink + weights.to(q.dtype) @ self.values[:, :, seen]
                top = higher
            n = here.stop - here.start
            mixed[:, :, here] = (mix / total).view(B, H, n, D)
            sums[:, :, here] = (top + total.log()).view(B, H, n)
        return mixed, sums

    def backward(self, outer: Tensor, d_keys: Tensor, d_values: Tensor) -> Tensor:
        """Add to the gradients of keys and values; return that of the queries."""
        d_queries, scale = torch.empty_like(self.queries), self.queries.shape[-1] ** -0.5
        inner = (outer.to(self.exact) * self.mixed.to(self.exact)).sum(
            -1, keepdim=True
        )  # (B, H, t, 1)
        random = self._random()
        for here in self._query_tiles():
            q, d_out, dots, log_sum = (
                self._by_group(x, here)
                for x in (self.queries, outer, inner, self.log_sums[..., None])
            )
            d_q = torch.zeros_like(q, dtype=self.exact)
            for seen in self._key_tiles(here):
                k, v = self.keys[:, :, seen], self.values[:, :, seen]
                weights = self._scores(q, here, seen).sub_(log_sum).exp_()
                d_weights = (d_out @ v.mT).to(self.exact)
                kept = self._kept(weights, random)
                dropped = weights
                if kept is not None:
                    dropped, d_weights = weights * kept, d_weights * kept
                d_scores = (d_weights.sub_(dots).mul_(weights) * scale).to(q.dtype)
                d_values[:, :, seen] += dropped.to(q.dtype).mT @ d_out
                d_keys[:, :, seen] += d_scores.mT @ q
                d_q += d_scores @ k
            d_queries[:, :, here] = d_q.view_as(d_queries[:, :, here])
        return d_queries

    def _scores(self, q: Tensor, here: slice, seen: slice) -> Tensor:
        scores = (q @ self.keys[:, :, seen].mT).to(self.exact).mul_(q.shape[-1] ** -0.5)
        first = self.before + here.start
        if seen.stop > first + 1:  # some keys are after some queries
            behind = torch.arange(first, self.before + here.stop, device=q.device)[:, None]
            hidden = torch.arange(seen.start, seen.stop, device=q.device) > behind  # (n, keys)
            n_repeats = scores.shape[2] // len(hidden)
            scores.masked_fill_(hidden.repeat(n_repeats, 1), -torch.inf)
        return scores

    def _by_group(self, x: Tensor, here: slice) -> Tensor:
        """View some positions of the heads that share keys as one group: (B, G, R n, ...)."""
        x = x[:, :, here]
        return x.reshape(len(x), self.n_groups, -1, *x.shape[3:])

    def _query_tiles(self) -> Iterator[slice]:
        t = self.queries.shape[2]
        for start in range(0, t, _QUERIES):
            yield slice(start, min(start + _QUERIES, t))

    def _key_tiles(self, here: slice) -> Iterator[slice]:
        """The keys that these queries see, the first tile without masked rows."""
        stop = self.before + here.stop
        for start in range(0, stop, _KEYS):
            yield slice(start, min(start + _KEYS, stop))

    def _random(self) -> torch.Generator:
        return torch.Generator(self.queries.device).manual_seed(self.seed)

    def _kept(self, weights: Tensor, random: torch.Generator) -> Tensor | None:
        """Draw which weights are kept, in the same order in both passes, and scale them."""
        if not self.dropout:
            return None
        kept = torch.empty_like(weights).bernoulli_(1.0 - self.dropout, generator=random)
        return kept.div_(1.0 - self.dropout)
