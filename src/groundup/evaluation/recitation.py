"""How much of a sample is memorized: passages copied from the training text.

Every run of `_SEED` characters of the sample is looked up in the training text by its hash
(`base/copies.py`); the few matches are then extended, all at once, until they end. Ten million
characters take about a second.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt32

from groundup.base.copies import RunIndex, equal_runs, hash_runs

_SEED = 8
_AT_ONCE = 2**20
"""Characters of the training text that are compared at once."""


@dataclass(frozen=True, kw_only=True)
class Recitation:
    """How much of a sample is copied verbatim."""

    longest: str
    """The longest passage that occurs in the training text."""
    copied_frac: float
    """Share of the sample in copied passages of at least `n_characters`."""
    n_characters: int
    """The minimum length of a copied passage."""


def recitation(
    sample: str, training_text: str | Callable[[], Iterable[str]], *, n_characters: int = 32
) -> Recitation:
    """Measure how much of a sample is copied.

    Args:
        sample: The generated text.
        training_text: The complete training text, or a function that reads it in chunks.
        n_characters: Minimum length of a copied passage; shorter ones may be idioms.

    >>> found = recitation("and then the cat sat", "once the cat sat down", n_characters=8)
    >>> found.longest, found.copied_frac
    (' the cat sat', 0.6)
    """
    read = (lambda: [training_text]) if isinstance(training_text, str) else training_text
    lengths = np.zeros(len(sample), dtype=np.int64)
    for text in _overlapping(read(), len(sample)):
        lengths = np.maximum(lengths, match_lengths(sample, text))
    copied = np.zeros(len(sample), dtype=bool)
    reach = 0
    for start, length in enumerate(lengths.tolist()):
        reach = max(reach, start + length if length >= n_characters else 0)
        copied[start] = start < reach
    best = int(lengths.argmax()) if len(sample) else 0
    longest = sample[best : best + int(lengths[best])] if len(sample) else ""
    if len(longest) < _SEED:
        short = (_longest_short(sample, text) for text in _overlapping(read(), _SEED))
        longest = max(short, key=lambda found: (len(found), -sample.find(found)), default="")
    return Recitation(
        longest=longest,
        copied_frac=float(copied.mean()) if len(sample) else 0.0,
        n_characters=n_characters,
    )


def _overlapping(chunks: Iterable[str], n: int) -> Iterator[str]:
    """Join chunks to texts of about a million characters; each begins with the last n before it."""
    parts: list[str] = []
    n_characters = 0
    for chunk in chunks:
        parts.append(chunk)
        n_characters += len(chunk)
        if n_characters >= _AT_ONCE:
            text = "".join(parts)
            yield text
            parts, n_characters = [text[max(0, len(text) - n) :]], 0
    yield "".join(parts)


def match_lengths(sample: str, text: str) -> Int[np.ndarray, " n"]:
    """Compute, for each position, the longest passage from there that occurs in the text.

    Passages shorter than 8 characters count as 0.

    >>> match_lengths("abcdefghij!", "xxabcdefghijyy").tolist()
    [10, 9, 8, 0, 0, 0, 0, 0, 0, 0, 0]
    """
    ours, theirs = _characters(sample), _characters(text)
    lengths = np.zeros(len(ours), dtype=np.int64)
    for here, there in equal_runs(ours, theirs, _SEED):
        # Where the characters before are the same, too, that pair counts one more.
        is_first = (here == 0) | (there == 0) | (ours[here - 1] != theirs[there - 1])
        here, there, length = here[is_first], there[is_first], 0
        while len(here):
            ended = (here + length >= len(ours)) | (there + length >= len(theirs))
            same = ~ended
            same[same] = ours[here[same] + length] == theirs[there[same] + length]
            here, there = here[same], there[same]
            length += 1
            if length >= _SEED:
                lengths[here] = np.maximum(lengths[here], length)
    # A passage that begins at a position goes on from the next one with one character less.
    places = np.arange(len(ours))
    lengths = np.maximum.accumulate(lengths + places) - places
    return np.where(lengths >= _SEED, lengths, 0)


def _characters(text: str) -> UInt32[np.ndarray, " n"]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def _longest_short(sample: str, text: str) -> str:
    """Find the longest common passage shorter than `_SEED`, by bisection over the length."""
    ours, theirs = _characters(sample), _characters(text)
    best, low, high = "", 1, _SEED - 1
    while low <= high:
        length = (low + high) // 2
        mine, all_theirs = hash_runs(ours, length), hash_runs(theirs, length)
        common = all_theirs[RunIndex(mine).find(all_theirs)]
        # Hashes may collide, so the text decides.
        starts = RunIndex(common).find(mine).tolist()
        found = next((sample[s : s + length] for s in starts if sample[s : s + length] in text), "")
        best, low, high = (found, length + 1, high) if found else (best, low, length - 1)
    return best
