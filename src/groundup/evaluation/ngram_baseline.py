"""A baseline that only counts: predict the next byte from the three before it.

How often did each byte follow these three in the training text? Where three bytes were rarely or
never seen, it falls back to the last two, then one, then none (interpolated modified Kneser-Ney).
A network that trains for minutes should do better than these counts, which take a second; if it
does not, it has not yet learned more than spelling.

Source: "An Empirical Study of Smoothing Techniques for Language Modeling" (Chen and Goodman),
section 3 and equation 27.
"""

import math
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float, Int, UInt8

from groundup.base.errors import UserError

_CHUNK_BYTES = 1 << 24


class ByteNgrams:
    """Counts of byte sequences, and the probability of the next byte from them.

    Args:
        text: The training bytes, at once or in blocks.
        n_context: Number of bytes of context, up to 6.

    Raises:
        UserError: The text is empty.

    >>> model = ByteNgrams(b"abracadabra" * 9)
    >>> model.bits_per_byte(b"abracadabra") < 1 < model.bits_per_byte(b"xyzzy")
    True
    """

    def __init__(self, text: bytes | Iterable[bytes], n_context: int = 3) -> None:
        if not 0 <= n_context <= 6:
            raise ValueError(f"a context of {n_context} bytes; 0 to 6 fit in 64 bits")
        self.n_context = n_context
        self._levels: list[_Level] = []
        keys, counts = _count(_chunks(text), n_context)
        if not len(keys):
            raise UserError("There are no training bytes. Some text is expected.")
        levels = [_Level(keys, counts)]
        for width in range(n_context, 0, -1):
            # Below the highest order a byte counts once for each different byte before it, not
            # once for each occurrence: "Francisco" is frequent, but follows one word only.
            shorter = keys & np.int64((1 << (8 * width)) - 1)
            keys, counts = np.unique(shorter, return_counts=True)
            levels.append(_Level(keys, counts))
        self._levels = levels[::-1]  # no context first

    def probabilities(self, context: bytes) -> Float[np.ndarray, "256"]:
        """Compute the probability of each of the 256 bytes after a context.

        >>> float(round(ByteNgrams(b"a rose is a rose").probabilities(b" ro").sum(), 9))
        1.0
        """
        recent = np.frombuffer(context[len(context) - self._reach(len(context)) :], dtype=np.uint8)
        texts = np.empty((256, len(recent) + 1), dtype=np.uint8)
        texts[:, :-1], texts[:, -1] = recent, np.arange(256)
        keys = np.zeros(256, dtype=np.int64)
        for column in texts.T:
            keys = (keys << 8) | column
        return self._interpolate(keys, len(recent))

    def bits_per_byte(self, text: bytes) -> float:
        """Compute the mean of -log2 of the probability of each byte of another text, in order.

        Raises:
            UserError: The text is empty.
        """
        if not text:
            raise UserError("There are no validation bytes. Some text is expected.")
        validation = np.frombuffer(text, dtype=np.uint8)
        bits = 0.0
        # The first bytes have less context.
        for position in range(min(self.n_context, len(validation))):
            probability = self.probabilities(text[:position])[validation[position]]
            bits -= math.log2(probability)
        for start in range(self.n_context, len(validation), _CHUNK_BYTES):
            piece = validation[start - self.n_context : start + _CHUNK_BYTES]
            predicted = self._interpolate(_keys(piece, self.n_context), self.n_context)
            bits -= float(np.log2(predicted).sum())
        return bits / len(validation)

    def _reach(self, length: int) -> int:
        return min(self.n_context, length)

    def _interpolate(self, keys: Int[np.ndarray, " n"], width: int) -> Float[np.ndarray, " n"]:
        mixed = np.full(len(keys), 1 / 256)  # below order 0: uniform
        for used in range(width + 1):
            level = self._levels[used]
            mixed = level.mix(keys & np.int64((1 << (8 * (used + 1))) - 1), mixed)
        return mixed


class _Level:
    """The counts of one order: (context, byte) pairs as sorted integers."""

    def __init__(self, keys: Int[np.ndarray, " n"], counts: Int[np.ndarray, " n"]) -> None:
        self.keys, self.counts = keys, counts
        # The discounts of pairs seen once, twice, and more often, redistributed to unseen pairs.
        n1, n2, n3, n4 = (max(1, int((counts == times).sum())) for times in (1, 2, 3, 4))
        y = n1 / (n1 + 2 * n2)
        discounts = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        # On very short texts the estimate can be off; a discount lies between 0 and its count.
        self.discounts = np.array(
            [0.0, *(min(max(d, 0.1), n - 0.1) for n, d in enumerate(discounts, 1))]
        )
        self.contexts, starts = np.unique(keys >> 8, return_index=True)
        self.totals = np.add.reduceat(counts, starts)
        self.taken = np.add.reduceat(self.discounts[np.minimum(counts, 3)], starts)

    def mix(
        self, keys: Int[np.ndarray, " n"], below: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """Mix the discounted share of each pair with the prediction of the lower order."""
        where = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        counts = np.where(self.keys[where] == keys, self.counts[where], 0)
        place = np.minimum(np.searchsorted(self.contexts, keys >> 8), len(self.contexts) - 1)
        seen = self.contexts[place] == keys >> 8
        kept = np.maximum(counts - self.discounts[np.minimum(counts, 3)], 0.0)
        mixed = (kept + self.taken[place] * below) / self.totals[place]
        return np.where(seen, mixed, below)


def _keys(text: UInt8[np.ndarray, " n"], n_context: int) -> Int[np.ndarray, " m"]:
    """Pack each n_context + 1 consecutive bytes into one integer."""
    length = len(text) - n_context
    keys = np.zeros(max(length, 0), dtype=np.int64)
    for offset in range(n_context + 1):
        keys = (keys << 8) | text[offset : offset + max(length, 0)]
    return keys


def _chunks(text: bytes | Iterable[bytes]) -> Iterator[bytes]:
    """Cut or join a text into chunks of at least 16 MiB; the last one may be shorter."""
    if isinstance(text, bytes):
        yield from (text[i : i + _CHUNK_BYTES] for i in range(0, len(text), _CHUNK_BYTES))
        return
    parts: list[bytes] = []
    for block in text:
        parts.append(block)
        if sum(map(len, parts)) >= _CHUNK_BYTES:
            yield b"".join(parts)
            parts = []
    yield b"".join(parts)


def _count(
    chunks: Iterable[bytes], n_context: int
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    # In chunks, so that memory grows with the number of different pairs, not with the text.
    keys, counts = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    before = bytes(n_context)  # the text is padded with zero bytes at its start
    for chunk in chunks:
        text = before + chunk
        before = text[len(chunk) :]
        piece = _keys(np.frombuffer(text, dtype=np.uint8), n_context)
        more_keys, more_counts = np.unique(piece, return_counts=True)
        all_keys = np.concatenate([keys, more_keys])
        keys, inverse = np.unique(all_keys, return_inverse=True)
        merged = np.bincount(inverse, weights=np.concatenate([counts, more_counts]))
        counts = merged.astype(np.int64)
    return keys, counts
