"""Learning byte-pair encoding: count pretokens, then merge the commonest pair, again and again.

All distinct pretokens stand in one row of ids, so that a merge is a handful of array operations on
the places where its pair stands. A pair that a merge brings forth has all its places from then on
and can only lose some, so its count is an upper bound until it comes to the top of the heap, where
it is counted again. `groundup.reference.bpe` says the same in its simplest form.
"""

import heapq
import logging
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from groundup.base.errors import UserError
from groundup.tokenizer.bpe import BPETokenizer, Pair
from groundup.tokenizer.pretokens import splitter
from groundup.tokenizer.save import byte_spelling
from groundup.tokenizer.special import SPECIAL_TOKENS

log = logging.getLogger(__name__)

Places = NDArray[np.int64]
_END, _GONE = -1, -2
"""In place of an id: the end of a word; what a merge took away."""


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    *,
    pattern: str = "gpt4",
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
) -> BPETokenizer:
    """Learn a tokenizer of at most `vocab_size` ids: 256 bytes, the merges, the special tokens.

    Fewer merges are learnt when no pair occurs twice.

    Raises:
        UserError: The vocabulary cannot hold the bytes and special tokens, or the text is empty.

    >>> train_bpe(["aaabdaaabac"], 256 + 3, special_tokens=()).merges
    [(97, 97), (97, 98), (256, 257)]
    """
    n_merges = vocab_size - 256 - len(special_tokens)
    if n_merges < 0:
        raise UserError(
            f"a vocabulary of {vocab_size} cannot hold 256 bytes "
            f"and {len(special_tokens)} special tokens",
            need=f"{256 + len(special_tokens)} or more",
            type_this="--vocab-size 1024",
        )
    counts = count_pretokens(texts, pattern)
    if not counts:
        raise UserError("there is no text to learn from", need="some words")
    merges = learn_merges(counts, n_merges)
    if len(merges) < n_merges:
        log.warning("only %d of %d merges: no pair is left twice", len(merges), n_merges)
    first = 256 + len(merges)
    special = {name: first + i for i, name in enumerate(special_tokens)}
    return BPETokenizer(merges, pattern=pattern, special_tokens=special)


def count_pretokens(texts: Iterable[str], pattern: str) -> Counter[bytes]:
    """Count each distinct pretoken; memory follows the distinct ones, not the text."""
    split = splitter(pattern)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(split(text))
    return Counter(
        {word.encode("utf-8", errors="surrogatepass"): count for word, count in counts.items()}
    )


def learn_merges(counts: Counter[bytes], n_merges: int) -> list[Pair]:
    """Learn pairs from counted words; ids from 256 on are given in the order of learning.

    Ties go to the pair of lower ids in Hugging Face's numbering (bytes in the order of their
    printable stand-ins, then the merges), so that its trainer learns the same merges.
    """
    spelling = byte_spelling()
    byte_of_number = sorted(range(256), key=spelling.__getitem__)
    number_of_byte = bytes(sorted(range(256), key=byte_of_number.__getitem__))
    words = _Words(counts, number_of_byte, n_merges)
    merges: list[Pair] = []
    while len(merges) < n_merges and (pair := words.commonest_pair()):
        words.merge(pair, 256 + len(merges))
        merges.append(pair)
    own_id = [*byte_of_number, *range(256, 256 + n_merges)]
    return [(own_id[left], own_id[right]) for left, right in merges]


class _Words:
    """The words in a row of ids, each closed by `_END`; a linked list, as merges leave gaps."""

    def __init__(self, counts: Counter[bytes], number_of_byte: bytes, n_merges: int) -> None:
        lengths = np.fromiter(map(len, counts), dtype=np.int64, count=len(counts))
        is_end = np.zeros(lengths.sum() + len(lengths), dtype=bool)
        is_end[np.cumsum(lengths + 1) - 1] = True
        self.ids = np.full(len(is_end), _END, dtype=np.int64)
        letters = b"".join(counts).translate(number_of_byte)
        self.ids[~is_end] = np.frombuffer(letters, dtype=np.uint8)
        weights = np.fromiter(counts.values(), dtype=np.int64, count=len(counts))
        self.weights = np.repeat(weights, lengths + 1)
        """How often the word that a place belongs to occurs."""
        self.after = np.arange(1, len(is_end) + 1)
        self.before = np.arange(-1, len(is_end) - 1)  # -1 is the last place, an end
        self.base = 256 + n_merges
        self.heap: list[tuple[int, int]] = []
        """Pairs as (-count, left * base + right), whose order breaks ties as it should."""
        self.pairs_with: dict[int, _Pairs] = {}
        """By the newer of their two ids; all pairs of bytes go by the last byte's."""
        places = np.flatnonzero(~is_end[:-1] & ~is_end[1:])
        self._add_pairs(255, self.ids[places] * self.base + self.ids[places + 1], places)

    def commonest_pair(self) -> Pair | None:
        """Find the pair that stands most often, or None if no pair stands twice."""
        while self.heap:
            count, key = self.heap[0]
            pair = divmod(key, self.base)
            found = int(self.weights[self._places(pair)].sum())
            if found == -count:
                return pair
            if found < 2:
                heapq.heappop(self.heap)
            else:
                heapq.heapreplace(self.heap, (-found, key))
        return None

    def merge(self, pair: Pair, made: int) -> None:
        """Put the id `made` wherever the pair stands, from left to right."""
        heapq.heappop(self.heap)
        places = self._places(pair)
        if pair[0] == pair[1]:
            places = _every_other(places, self.after)
        second = self.after[places]
        prior, beyond = self.before[places], self.after[second]
        self.ids[places], self.ids[second] = made, _GONE
        self.after[places], self.before[beyond] = beyond, places
        left, right = self.ids[prior], self.ids[beyond]  # prior is gone if it was merged, too
        has_left, has_right = left >= 0, right >= 0
        keys = (left[has_left] * self.base + made, made * self.base + right[has_right])
        where = (prior[has_left], places[has_right])
        self._add_pairs(made, np.concatenate(keys), np.concatenate(where))

    def _places(self, pair: Pair) -> Places:
        """Find where a pair stands now, among the places where it stood when it was new."""
        left, right = pair
        places = self.pairs_with[max(left, right, 255)].places_of(left * self.base + right)
        holds = (self.ids[places] == left) & (self.ids[self.after[places]] == right)
        found: Places = places[holds]
        return found

    def _add_pairs(self, newer: int, keys: Places, places: Places) -> None:
        if not len(keys):
            return
        order = np.argsort(keys, kind="stable")
        pairs = _Pairs(keys[order], places[order])
        counts = np.add.reduceat(self.weights[pairs.places], pairs.edges[:-1])
        often = counts >= 2
        for entry in zip((-counts[often]).tolist(), pairs.keys[often].tolist(), strict=True):
            heapq.heappush(self.heap, entry)
        self.pairs_with[newer] = pairs


class _Pairs:
    """Where each of many pairs stands: places sorted by their pair's key."""

    def __init__(self, key_of_place: Places, places: Places) -> None:
        self.places = places
        starts = np.flatnonzero(np.diff(key_of_place, prepend=-1))
        self.keys = key_of_place[starts]
        self.edges = np.append(starts, len(places))

    def places_of(self, key: int) -> Places:
        index = self.keys.searchsorted(key)
        found: Places = self.places[self.edges[index] : self.edges[index + 1]]
        return found


def _every_other(places: Places, after: Places) -> Places:
    """Of places that follow one another (as in a a a), keep every other, from the first on."""
    number = np.arange(len(places))
    begins = np.append(True, after[places[:-1]] != places[1:])
    in_run = number - np.maximum.accumulate(np.where(begins, number, 0))
    kept: Places = places[in_run % 2 == 0]
    return kept
