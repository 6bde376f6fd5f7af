"""The KV cache: keys and values of many texts, with memory for what each of them needs.

Rows of about the same capacity lie in one slab, so that one operation computes the attention of all
of them. A row that outgrows its capacity moves to the next slab. A row that is no longer referenced
leaves its place to the last row of the slab, so that the places in use have no gaps.

Layers with a sliding window store the last positions only, in a ring: position p is stored at p
modulo its length, over a position that no later query sees. A gated delta rule stores its state.
"""

import math
import weakref
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from groundup.base.errors import UserError
from groundup.model.config import GPTConfig
from groundup.model.count import DELTA_TAPS

BLOCK = 128
"""Positions of the smallest capacity."""
MOST_DRAFT = 64
"""Positions that `Row.truncate` can remove at once from layers with a sliding window."""


def capacity_for(n_positions: int, context_length: int) -> int:
    """Round up to a capacity: 128, 192, 256, 384, 512, ... plus 16, and at most the context.

    In rows of a power of two, all values of a position would compete for the same cache lines.

    >>> [capacity_for(n, 1000) for n in (1, 129, 200, 500, 800)]
    [144, 144, 208, 528, 1008]
    """
    capacity = BLOCK
    while capacity + 16 < n_positions:
        capacity = capacity * 3 // 2 if capacity & (capacity - 1) == 0 else capacity * 4 // 3
    most = -(-context_length // 16) * 16  # whole cache lines
    return min(capacity + 16, most + 16 * (most % BLOCK == 0))


Views = tuple[Tensor, Tensor, Tensor, Tensor, int]
"""Keys (R, G, D, S) and values (R, G, S, D), both as batches of R G matrices, and S."""


class _Place:
    """Where a row is: it changes when rows move."""

    def __init__(self, slab: "Slab", slot: int) -> None:
        self.slab, self.slot = slab, slot
        self.n_written = 0


def stored_lengths(config: GPTConfig, capacity: int) -> list[int]:
    """Stored positions of each layer for a row: the capacity, or less in a ring."""
    lengths = []
    for layer in range(config.n_layers):
        window = config.window_of(layer)
        ring = capacity if window is None else -(-(window + MOST_DRAFT) // 16) * 16
        lengths.append(min(capacity, ring + 16 * (ring % BLOCK == 0)))
    return lengths


def row_bytes(config: GPTConfig, n_positions: int) -> int:
    """Memory of a row for a number of positions, in bytes."""
    shapes = _shapes(config, capacity_for(n_positions, config.context_length))
    return 4 * sum(math.prod(keys) + math.prod(values) for keys, values in shapes)


def _shapes(config: GPTConfig, capacity: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Shapes of the two tensors of a row in each layer; see `Slab`."""
    H, G, D = config.n_heads, config.kv_heads, config.head_width
    return [
        ((H, D, D), (DELTA_TAPS - 1, 3 * H * D)) if kind == "d" else ((G, D, S), (G, S, D))
        for kind, S in zip(config.kinds, stored_lengths(config, capacity), strict=True)
    ]


class Slab:
    """Keys and values of several rows of one capacity.

    `keys[layer]` is (R, G, D, S) and `values[layer]` (R, G, S, D): in this order the products of
    attention read both along their last dimension. Of a gated delta rule they are its matrices
    (R, H, D, D), and the last inputs of its convolution (R, 3, 3 H D).
    """

    def __init__(self, config: GPTConfig, capacity: int, device: torch.device) -> None:
        self.capacity = capacity
        self._device = device
        self.lengths = stored_lengths(config, capacity)
        """Stored positions of each layer: the capacity, or less in a ring."""
        self.row_bytes = row_bytes(config, capacity)
        """Memory of one row, in bytes."""
        self.places: list[_Place] = []
        self._views: dict[tuple[int, int], list[Views]] = {}
        self._n_slots = 0
        self.is_state = [kind == "d" for kind in config.kinds]
        """Which layers are gated delta rules."""
        shapes = _shapes(config, capacity)
        self.keys, self.values = (
            [torch.empty(0, *each[i], device=device) for each in shapes] for i in range(2)
        )

    @property
    def n_bytes(self) -> int:
        """Memory of all rows, also of those that are not in use."""
        return self._n_slots * self.row_bytes

    def views(self, slot: int, n_rows: int) -> list[Views]:
        """The tensors of neighboring rows, for each layer."""
        found = self._views.get((slot, n_rows))
        if found is None:
            found = []
            for keys, values in zip(self.keys, self.values, strict=True):
                k, v = keys.narrow(0, slot, n_rows), values.narrow(0, slot, n_rows)
                found.append((k, v, k.flatten(0, 1), v.flatten(0, 1), v.shape[2]))
            self._views[slot, n_rows] = found
        return found

    def make_room(self, n_rows: int) -> None:
        """Make room for further rows at once: each growth copies all rows."""
        n_slots = len(self.places) + n_rows
        if n_slots > self._n_slots:
            self._resize(n_slots)

    def trim(self) -> None:
        """Free the memory of rows that are not in use."""
        if len(self.places) < self._n_slots:
            self._resize(len(self.places))

    def take(self) -> _Place:
        """Use the next free place."""
        if len(self.places) == self._n_slots:
            self._resize(self._n_slots + max(1, self._n_slots // 2))
        place = _Place(self, len(self.places))
        self.places.append(place)
        # What lies behind the end of a row is masked, but a NaN would pass through the mask.
        for tensor in (*self.keys, *self.values):
            tensor[place.slot].zero_()
        return place

    def free(self, place: _Place) -> None:
        """Give a place up; the last row moves to it."""
        last = self.places.pop()
        if last is not place:
            for tensor in (*self.keys, *self.values):
                tensor[place.slot] = tensor[last.slot]
            self.places[place.slot] = last
            last.slot, place.slot = place.slot, last.slot
        if 4 * len(self.places) <= self._n_slots:
            self._resize(2 * len(self.places))

    def _resize(self, n_slots: int) -> None:
        # One layer at a time: the peak is one layer above the result. Memory of rows that are not
        # in use is not touched, so that the system does not provide it yet.
        self._views.clear()
        n_used = len(self.places)
        for tensors in (self.keys, self.values):
            for layer, old in enumerate(tensors):
                new = torch.empty(n_slots, *old.shape[1:], device=self._device)
                new[:n_used] = old[:n_used]
                tensors[layer] = new
        self._n_slots = n_slots


def copy_row(source: _Place, target: _Place) -> None:
    """Copy the stored positions of a row, and its states, to another place."""
    old, new = source.slab, target.slab
    for layer, is_state in enumerate(old.is_state):
        n = min(old.lengths[layer], source.n_written)
        keys, values = old.keys[layer][source.slot], old.values[layer][source.slot]
        if not is_state:
            new.keys[layer][target.slot, :, :, :n] = keys[:, :, :n]
            new.values[layer][target.slot, :, :n] = values[:, :n]
        else:  # also one of zeros: the place may have another
            new.keys[layer][target.slot] = keys
            new.values[layer][target.slot] = values


class Row:
    """The stored positions of one text. A decoder makes it with `new_row` and appends to it."""

    def __init__(self, place: _Place, *, has_ring: bool) -> None:
        self.place = place
        self.ids: list[int] = []
        """Token ids at the stored positions."""
        self._has_ring = has_ring

    @property
    def length(self) -> int:
        """Number of stored positions."""
        return len(self.ids)

    @property
    def n_bytes(self) -> int:
        """Memory of the keys and values, in bytes."""
        return self.place.slab.row_bytes

    @property
    def order(self) -> tuple[int, int]:
        """Where the row lies in memory, as a key for sorting."""
        return self.place.slab.capacity, self.place.slot

    def advance(self, ids: Sequence[int]) -> None:
        """Add the ids whose keys and values every layer has stored."""
        self.ids.extend(ids)
        self.place.n_written = max(self.place.n_written, self.length)

    def truncate(self, length: int) -> None:
        """Remove the positions from `length` on, for example those of rejected draft tokens.

        Raises:
            UserError: The row has fewer positions, or more than `MOST_DRAFT` positions would be
                removed that were stored in a layer with a sliding window, or the model has a gated
                delta rule, which stores the state after the last position only.
        """
        if not 0 <= length <= self.length:
            raise UserError(f"The row has {self.length} positions and cannot keep {length}.")
        n_removed = self.place.n_written - length
        is_lossy = self._has_ring and self.place.n_written > min(self.place.slab.lengths)
        if is_lossy and n_removed > MOST_DRAFT:
            raise UserError(
                f"{n_removed} positions cannot be removed. The model has layers with a sliding "
                f"window, and a row keeps {MOST_DRAFT} positions more than the window."
            )
        if length < self.length and any(self.place.slab.is_state):
            raise UserError(
                f"{self.length - length} positions cannot be removed. The model has layers with a "
                "gated delta rule, which store the state after the last position only."
            )
        del self.ids[length:]


class Rows:
    """All rows of a decoder."""

    def __init__(self, config: GPTConfig, device: torch.device) -> None:
        self._config, self._device = config, device
        self._slabs: dict[int, Slab] = {}
        self._dropped: list[_Place] = []

    @property
    def n_bytes(self) -> int:
        """Memory of all keys and values, in bytes."""
        slabs = list(self._slabs.values())  # a copy: other threads may ask
        return sum(slab.n_bytes for slab in slabs)

    def make_room(self, sizes: Sequence[int]) -> None:
        """Make room for new rows with these numbers of positions, all at once."""
        self.collect()
        for slab, n_rows in Counter(map(self._slab, sizes)).items():
            slab.make_room(n_rows)

    def trim(self) -> None:
        """Free the memory of rows that are not in use."""
        self.collect()
        for slab in self._slabs.values():
            slab.trim()

    def new_row(self, n_positions: int | None) -> Row:
        """Make an empty row with memory for a number of positions. None: the least."""
        self.collect()
        place = self._slab(n_positions or 1).take()
        row = Row(place, has_ring="w" in self._config.kinds)
        # Rows may be collected at any moment, also in the middle of a step; rows move later.
        weakref.finalize(row, self._dropped.append, place).atexit = False
        return row

    def copied(self, row: Row, length: int, n_positions: int | None) -> Row:
        """Make a row that begins with the first positions of another.

        Raises:
            UserError: As `Row.truncate`.
        """
        new = self.new_row(max(n_positions or 0, row.length))
        new.place.n_written = row.place.n_written
        copy_row(row.place, new.place)
        new.ids = list(row.ids)
        new.truncate(length)
        return new

    def check(self, row: Row, n_new: int) -> None:
        """Check that a number of positions fit in the context after those of a row.

        Raises:
            UserError: They do not fit.
        """
        if row.length + n_new > self._config.context_length:
            raise UserError(
                f"{row.length + n_new} tokens do not fit in the model's context of "
                f"{self._config.context_length}. Use a shorter text, or a model with a longer "
                "context_length."
            )

    def reserve(self, row: Row, n_new: int) -> None:
        """Make room for new positions. The row moves when its slab is too small."""
        place = row.place
        if row.length + n_new <= place.slab.capacity:
            return
        target = self._slab(row.length + n_new).take()
        target.n_written = place.n_written
        copy_row(place, target)
        # The place object is what the finalizer of the row knows: it becomes the new place.
        old_slab, old_slot = place.slab, place.slot
        place.slab, place.slot, target.slab, target.slot = (
            target.slab, target.slot, old_slab, old_slot,
        )  # fmt: skip
        place.slab.places[place.slot] = place
        old_slab.places[old_slot] = target
        self._free(target)

    def collect(self) -> None:
        """Free the places of rows that are no longer referenced."""
        while self._dropped:
            self._free(self._dropped.pop())

    def _free(self, place: _Place) -> None:
        place.slab.free(place)
        if not place.slab.places:
            del self._slabs[place.slab.capacity]

    def _slab(self, n_positions: int) -> Slab:
        capacity = capacity_for(n_positions, self._config.context_length)
        if capacity not in self._slabs:
            self._slabs[capacity] = Slab(self._config, capacity, self._device)
        return self._slabs[capacity]
