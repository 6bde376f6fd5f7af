"""Attention of new positions to the stored ones, for the two shapes that occur in generation.

`StepAttention` is for one new position in each of many rows. Rows that lie next to each other in a
slab are one batch of products; shorter ones are masked. `ReadAttention` is for many new positions
of one row. Both store the new keys and values first.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from groundup.generation.rows import Row, Slab
from groundup.model.delta import DeltaMixer
from groundup.model.recomputed_attention import recomputed_attention

_FEW = 32
"""Up to this number of new positions, plain products are faster than torch's fused kernel."""
_MANY = 8192
"""Above this number of positions no mask for all of them is made."""


def visible(positions: Tensor, n_slots: int, ring: int, window: int | None) -> Tensor:
    """Which stored slots a query at each position sees, (N, n_slots).

    In a ring of `ring` slots, slot j holds the newest position that is j modulo `ring`. The query's
    own position is stored.

    >>> visible(torch.tensor([1, 5]), 4, 4, 3).int().tolist()
    [[1, 1, 0, 0], [1, 1, 0, 1]]
    """
    slots = torch.arange(n_slots, device=positions.device)
    age = (positions[:, None] - slots) % ring  # how many positions before the query
    mask = age <= positions[:, None]
    return mask if window is None else mask & (age < window)


class _Run:
    """Rows next to each other in a slab, and in the batch."""

    def __init__(self, slab: Slab, rows: Sequence[Row], first: int) -> None:
        self.first, self.n_rows = first, len(rows)
        self.views = slab.views(rows[0].place.slot, len(rows))
        self.positions = [row.length for row in rows]
        self._device = device = slab.keys[0].device
        self.start = self.positions[0] if len(set(self.positions)) == 1 else None
        if self.start is None:
            self.slots = torch.arange(self.n_rows, device=device)
            self.places = torch.tensor(self.positions, device=device)
        self._masks: dict[tuple[int, int | None], tuple[int, Tensor | None, Tensor | None]] = {}

    def mask(
        self, length: int, window: int | None, n_groups: int
    ) -> tuple[int, Tensor | None, Tensor | None]:
        """How many slots to read, the mask of them, and the slot of each row's new position."""
        key = (length, window)
        if key not in self._masks:
            self._masks[key] = self._new_mask(length, window, n_groups)
        return self._masks[key]

    def _new_mask(
        self, length: int, window: int | None, n_groups: int
    ) -> tuple[int, Tensor | None, Tensor | None]:
        n_slots = min(max(self.positions) + 1, length)
        written = None if self.start is not None else self.places % length
        if self.start is not None and (window is None or n_slots <= window):
            return n_slots, None, written
        device = self._device
        seen = visible(torch.tensor(self.positions, device=device), n_slots, length, window)
        mask = torch.zeros(seen.shape, device=device).masked_fill_(~seen, -torch.inf)
        mask = mask[:, None].expand(-1, n_groups, -1).reshape(-1, 1, n_slots)  # (R G, 1, S)
        return n_slots, mask, written


class StepAttention:
    """One new position in each row.

    Args:
        rows: The rows, in the order of the batch: by slab, and by slot.
        windows: The sliding window of each layer.
        alone: Compute each row by itself, so that its bits do not depend on the others.
    """

    def __init__(
        self, rows: Sequence[Row], windows: Sequence[int | None], *, alone: bool = False
    ) -> None:
        self._windows = windows
        self._nothing = torch.zeros(1, device=rows[0].place.slab.keys[0].device)
        self._runs: list[_Run] = []
        first = 0
        for i in range(1, len(rows) + 1):
            before = rows[i - 1].place
            if i < len(rows) and not alone:
                place = rows[i].place
                if place.slab is before.slab and place.slot == before.slot + 1:
                    continue
            self._runs.append(_Run(before.slab, rows[first:i], first))
            first = i

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return (N, H D) for queries (N, H, D), keys and values (N, G, D)."""
        window, runs = self._windows[layer], self._runs
        if len(runs) == 1 and runs[0].n_rows == len(queries):
            return self._attend(runs[0], layer, window, queries, keys, values)
        mixed = torch.zeros_like(queries).flatten(1)  # deterministic batches have padding rows
        for run in runs:
            part = slice(run.first, run.first + run.n_rows)
            mixed[part] = self._attend(run, layer, window, queries[part], keys[part], values[part])
        return mixed

    def delta(self, layer: int, mixer: DeltaMixer, inputs: Tensor, rates: Tensor) -> Tensor:
        """Return (N, H D) for the inputs (N, 4 H D) and rates (N, 2 H) of a gated delta rule."""
        mixed = inputs.new_zeros(len(inputs), inputs.shape[1] // 4)
        for run in self._runs:
            part = slice(run.first, run.first + run.n_rows)
            state = run.views[layer][:2]  # (R, H, D, D), (R, 3, 3 H D)
            new, after = mixer.mix(inputs[part, None], rates[part, None], state)
            mixed[part] = new[:, 0]
            for stored, each in zip(state, after, strict=True):
                stored.copy_(each)
        return mixed

    def _attend(
        self, run: _Run, layer: int, window: int | None, q: Tensor, k: Tensor, v: Tensor
    ) -> Tensor:
        R, H, D = q.shape
        G = k.shape[1]
        all_k, all_v, batch_k, batch_v, length = run.views[layer]
        n_slots, mask, written = run.mask(length, window, G)
        if run.start is not None:
            at = run.start % length
            all_k.select(3, at).copy_(k)
            all_v.select(2, at).copy_(v)
        else:
            all_k[run.slots, :, :, written] = k
            all_v[run.slots, :, written] = v
        batch_k, batch_v = batch_k.narrow(2, 0, n_slots), batch_v.narrow(1, 0, n_slots)
        q = q.reshape(R * G, H // G, D)
        if mask is None:
            scores = torch.baddbmm(self._nothing, q, batch_k, beta=0, alpha=D**-0.5)
        else:
            scores = torch.baddbmm(mask, q, batch_k, alpha=D**-0.5)  # (R G, H / G, S)
        return torch.bmm(scores.softmax(-1), batch_v).view(R, H * D)


class ReadAttention:
    """Several new positions of one row."""

    def __init__(self, row: Row, n_new: int, windows: Sequence[int | None]) -> None:
        self._place, self._start, self._n_new = row.place, row.length, n_new
        self._windows = windows
        self._masks: dict[int | None, tuple[int, Tensor | None]] = {}

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return (T, H D) for queries (T, H, D), keys and values (T, G, D)."""
        T, H, D = queries.shape
        G = keys.shape[1]
        window = self._windows[layer]
        first, mask = self._mask(window, queries.device)
        keys, values = keys.permute(1, 2, 0), values.transpose(0, 1)  # (G, D, T), (G, T, D)
        keys, values = self._store(layer, first, keys, values)  # (G, D, S), (G, S, D)
        S = values.shape[1]
        if T <= _FEW:
            q = queries.view(T, G, H // G, D).permute(1, 2, 0, 3).reshape(G, -1, D)  # (G, n T, D)
            scores = torch.bmm(q, keys).mul_(D**-0.5)  # (G, n T, S)
            if mask is not None:
                scores.view(G, H // G, T, S).masked_fill_(~mask, -torch.inf)
            mixed = torch.bmm(scores.softmax(-1), values).view(G, H // G, T, D)
            return mixed.permute(2, 0, 1, 3).reshape(T, H * D)
        q = queries.transpose(0, 1)[None]  # (1, H, T, D)
        if window is None and S > _MANY:
            k, v = keys.mT.contiguous()[None], values[None]  # (1, G, S, D) each
            new = (k[:, :, S - T :], v[:, :, S - T :])
            before = (k[:, :, : S - T], v[:, :, : S - T])
            return recomputed_attention(q, *new, before)[0].transpose(0, 1).reshape(T, H * D)
        is_causal = mask is not None and first == self._start == 0 and window is None
        mixed = F.scaled_dot_product_attention(
            q,
            keys.mT.contiguous()[None],
            values[None],
            attn_mask=None if is_causal else mask,
            is_causal=is_causal,
            enable_gqa=G != H,
        )
        return mixed[0].transpose(0, 1).reshape(T, H * D)

    def delta(self, layer: int, mixer: DeltaMixer, inputs: Tensor, rates: Tensor) -> Tensor:
        """Return (T, H D) for the inputs (T, 4 H D) and rates (T, 2 H) of a gated delta rule."""
        slab, slot = self._place.slab, self._place.slot
        state = slab.keys[layer][slot, None], slab.values[layer][slot, None]
        mixed, after = mixer.mix(inputs[None], rates[None], state)
        for stored, each in zip(state, after, strict=True):
            stored.copy_(each)
        return mixed[0]

    def _mask(self, window: int | None, device: torch.device) -> tuple[int, Tensor | None]:
        """The first stored position that is read, and what each query sees from there on."""
        if window not in self._masks:
            stop = self._start + self._n_new
            first = 0 if window is None else max(0, self._start - window + 1)
            mask = None
            if self._n_new > 1 and (window is not None or stop <= _MANY or self._n_new <= _FEW):
                queries = torch.arange(self._start, stop, device=device)[:, None]
                positions = torch.arange(first, stop, device=device)
                mask = positions <= queries
                if window is not None:
                    mask &= positions > queries - window
            self._masks[window] = first, mask
        return self._masks[window]

    def _store(self, layer: int, first: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new keys and values; return those from position `first` on."""
        slab, slot = self._place.slab, self._place.slot
        all_keys, all_values = slab.keys[layer][slot], slab.values[layer][slot]
        start, stop = self._start, self._start + self._n_new
        length = all_values.shape[1]
        if stop <= length:
            all_keys[:, :, start:stop] = keys
            all_values[:, start:stop] = values
            return all_keys[:, :, first:stop], all_values[:, first:stop]
        # A ring: what the first of the new positions see is read before the last ones replace it.
        slots = torch.arange(first, start, device=keys.device) % length
        seen = torch.cat((all_keys[:, :, slots], keys), dim=2)
        seen_values = torch.cat((all_values[:, slots], values), dim=1)
        n_kept = min(self._n_new, length)
        slots = torch.arange(stop - n_kept, stop, device=keys.device) % length
        all_keys[:, :, slots] = keys[:, :, -n_kept:]
        all_values[:, slots] = values[:, -n_kept:]
        return seen, seen_values
