"""How much of a sample is memorized: passages copied from the training text.

Every sequence of `_SEED` characters of the sample is looked up in the training text by a hash over
arrays; the few matches are then extended, all at once, until they end. Ten million characters take
about a second.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt32, UInt64

_SEED = 8
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, with well-mixed bits
_TABLE_BITS = 20


@dataclass(frozen=True, kw_only=True)
class Recitation:
    """How much of a sample is copied verbatim."""

    longest: str
    """The longest passage that occurs in the training text."""
    copied_frac: float
    """Share of the sample in copied passages of at least `n_characters`."""
    n_characters: int
    """The minimum length of a copied passage."""


def recitation(sample: str, training_text: str, *, n_characters: int = 32) -> Recitation:
    """Measure how much of a sample is copied.

    Args:
        sample: The generated text.
        training_text: The complete training text.
        n_characters: Minimum length of a copied passage; shorter ones may be idioms.

    >>> found = recitation("and then the cat sat", "once the cat sat down", n_characters=8)
    >>> found.longest, found.copied_frac
    (' the cat sat', 0.6)
    """
    lengths = match_lengths(sample, training_text)
    copied = np.zeros(len(sample), dtype=bool)
    reach = 0
    for start, length in enumerate(lengths.tolist()):
        reach = max(reach, start + length if length >= n_characters else 0)
        copied[start] = start < reach
    best = int(lengths.argmax()) if len(sample) else 0
    longest = sample[best : best + int(lengths[best])] if len(sample) else ""
    if len(longest) < _SEED:
        longest = _longest_short(sample, training_text)
    return Recitation(
        longest=longest,
        copied_frac=float(copied.mean()) if len(sample) else 0.0,
        n_characters=n_characters,
    )


def match_lengths(sample: str, text: str) -> Int[np.ndarray, " n"]:
    """Compute, for each position, the longest passage from there that occurs in the text.

    Passages shorter than 8 characters count as 0.

    >>> match_lengths("abcdefghij!", "xxabcdefghijyy").tolist()
    [10, 9, 8, 0, 0, 0, 0, 0, 0, 0, 0]
    """
    ours, theirs = _characters(sample), _characters(text)
    lengths = np.zeros(len(ours), dtype=np.int64)
    here, there = _agreements(ours, theirs)
    length = 0
    while len(here):
        ended = (here + length >= len(ours)) | (there + length >= len(theirs))
        same = ~ended
        same[same] = ours[here[same] + length] == theirs[there[same] + length]
        here, there = here[same], there[same]
        length += 1
        if length >= _SEED:
            lengths[here] = length
    return lengths


def _agreements(
    ours: UInt32[np.ndarray, " n"], theirs: UInt32[np.ndarray, " m"]
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
    """List pairs of positions whose next `_SEED` characters have the same hash."""
    mine, all_theirs = _hashes(ours), _hashes(theirs)
    order = np.argsort(mine, kind="stable")
    sorted_mine = mine[order]
    # A table of a million flags excludes nearly all positions before the search.
    table = np.zeros(1 << _TABLE_BITS, dtype=bool)
    shift = np.uint64(64 - _TABLE_BITS)
    table[mine >> shift] = True
    there = np.flatnonzero(table[all_theirs >> shift])
    found = all_theirs[there]
    first = np.searchsorted(sorted_mine, found, side="left")
    n_each = np.searchsorted(sorted_mine, found, side="right") - first
    # One pair for each position of the sample with that hash.
    pair_there = np.repeat(there, n_each)
    ends = np.cumsum(n_each)
    within = np.arange(len(pair_there)) - np.repeat(ends - n_each, n_each)
    return order[np.repeat(first, n_each) + within], pair_there


def _hashes(characters: UInt32[np.ndarray, " n"], length: int = _SEED) -> UInt64[np.ndarray, " m"]:
    n = max(0, len(characters) - length + 1)
    hashes = np.zeros(n, dtype=np.uint64)
    for offset in range(length):
        hashes += characters[offset : offset + n]
        hashes *= _FACTOR  # overflow wraps, as intended
    return hashes


def _characters(text: str) -> UInt32[np.ndarray, " n"]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def _longest_short(sample: str, text: str) -> str:
    """Find the longest common passage shorter than `_SEED`, by bisection over the length."""
    ours, theirs = _characters(sample), _characters(text)
    best, low, high = "", 1, _SEED - 1
    while low <= high:
        length = (low + high) // 2
        common = np.isin(_hashes(ours, length), _hashes(theirs, length))
        # Hashes may collide, so the text decides.
        starts = np.flatnonzero(common).tolist()
        found = next((sample[s : s + length] for s in starts if sample[s : s + length] in text), "")
        best, low, high = (found, length + 1, high) if found else (best, low, length - 1)
    return best
