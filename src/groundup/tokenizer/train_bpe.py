"""Train byte-pair encoding: count pretokens, then merge the most frequent pair, again and again.

All distinct pretokens are stored in one array of ids, so that a merge is a few array operations on
the positions of its pair. A pair that a merge creates has all its positions from then on and can
only lose some. So its count is an upper bound until it reaches the top of the heap, where it is
counted again. `groundup.reference.bpe` is the same algorithm in its simplest form.
"""

import heapq
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

from groundup.base.errors import UserError
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.config import Ties
from groundup.tokenizer.pretokens import splitter
from groundup.tokenizer.round_trip import check_pattern, check_round_trip
from groundup.tokenizer.save import byte_spelling
from groundup.tokenizer.special import SPECIAL_TOKENS
from groundup.tokenizer.table import Pair

_log = logging.getLogger(__name__)

Places = NDArray[np.integer]
_END, _GONE = -1, -2
"""Not ids: the end of a word; a position that was merged into the one before."""
_BEYOND_BYTES = chr(256)
"""Ends a token's text in `falling`, so that a longer token comes before its own beginning."""


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    *,
    pattern: str = "gpt4",
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    ties: Ties = "lowest-id",
    min_count: int = 2,
) -> BPETokenizer:
    """Train a tokenizer of at most `vocab_size` ids: 256 bytes, the merges, the special tokens.

    Names of special tokens that occur in a text are left out of it, as in courses: no merge is
    inside one or across its edge.

    Args:
        texts: Texts to train on; they are read once.
        vocab_size: Maximum number of ids.
        pattern: "gpt2", "gpt4" or a regular expression for the `regex` package.
        special_tokens: Names of special tokens, which get the last ids.
        ties: Which of several equally frequent pairs is merged first. "lowest-id": the one with
            lower ids, as in Hugging Face's tokenizers. "greatest-bytes": the lexicographically
            greatest pair of byte strings, as in Stanford's CS336.
        min_count: Number of times that a pair has to occur to be merged; training ends early when
            none does. Hugging Face's trainer and CS336 use 1.

    Raises:
        TypeError: `texts` is one string, or an argument has another type.
        UserError: The vocabulary cannot hold the bytes and special tokens, the text is empty, or
            the pattern is not a regular expression.

    >>> train_bpe(["aaabdaaabac"], 256 + 3, special_tokens=()).merges
    [(97, 97), (97, 98), (256, 257)]
    """
    _check_types(texts, vocab_size, pattern)
    _check_special_tokens(special_tokens)
    n_merges = number_of_merges(vocab_size, special_tokens)
    check_pattern(pattern)
    counts = count_pretokens(texts, pattern, special_tokens)
    if not counts:
        raise UserError("There is no text to train on. Texts with at least one word are expected.")
    merges = learn_merges(counts, n_merges, ties, min_count)
    if len(merges) < n_merges:
        often = "twice" if min_count == 2 else f"{min_count} times"
        _log.warning("only %d of %d merges: no pair occurs %s", len(merges), n_merges, often)
    first = 256 + len(merges)
    special = {name: first + i for i, name in enumerate(special_tokens)}
    tokenizer = BPETokenizer(merges, pattern=pattern, special_tokens=special)
    check_round_trip(tokenizer)
    return tokenizer


def number_of_merges(vocab_size: int, special_tokens: Sequence[str] = SPECIAL_TOKENS) -> int:
    """How many merges a vocabulary has room for, after the bytes and the special tokens.

    Raises:
        UserError: It has no room for these.
    """
    n_merges = vocab_size - 256 - len(special_tokens)
    if n_merges < 0:
        raise UserError(
            f"A vocabulary of {vocab_size} cannot contain 256 bytes and {len(special_tokens)} "
            f"special tokens. A size of {256 + len(special_tokens)} or more is expected.",
            settings={"vocab_size": 1024},
        )
    return n_merges


def _check_types(texts: object, vocab_size: object, pattern: object) -> None:
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise TypeError(
            f"texts is a {type(texts).__name__}. A list or other iterable of strings is expected, "
            "as in train_bpe([text], 1024)."
        )
    if not isinstance(vocab_size, int) or isinstance(vocab_size, bool):
        raise TypeError(f"vocab_size is {vocab_size!r}. An integer is expected.")
    if not isinstance(pattern, str):
        raise TypeError(f"The pattern is a {type(pattern).__name__}. A string is expected.")


def _check_special_tokens(names: Sequence[str]) -> None:
    if isinstance(names, str):
        raise TypeError("special_tokens is a string. A list of strings is expected.")
    if not all(names) or len(set(names)) < len(names):
        raise UserError(
            f"The special tokens are {list(names)}. Different, non-empty names are expected.",
        )


def count_pretokens(
    texts: Iterable[str], pattern: str, special_tokens: Sequence[str] = ()
) -> Counter[bytes]:
    """Count each distinct pretoken; memory grows with the distinct ones, not with the text."""
    split = splitter(pattern)
    longest_first = sorted(special_tokens, key=len, reverse=True)
    cut = regex.compile("|".join(map(regex.escape, longest_first)))
    counts: Counter[str] = Counter()
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"Text {number} is a {type(text).__name__}. A string is expected.")
        if any(name in text for name in special_tokens):
            for part in cut.split(text):
                counts.update(split(part))
        else:
            counts.update(split(text))
    return Counter(
        {word.encode("utf-8", errors="surrogatepass"): count for word, count in counts.items()}
    )


def learn_merges(
    counts: Counter[bytes], n_merges: int, ties: Ties = "lowest-id", min_count: int = 2
) -> list[Pair]:
    """Find the merges of counted words; they get the ids from 256 on, in this order.

    Of pairs with the same count, with "lowest-id" the one with lower ids in Hugging Face's
    numbering is merged first (bytes in the order of their printable characters, then merges), as in
    its trainer.
    """
    n_merges = min(n_merges, sum(len(word) - 1 for word in counts))  # each shortens a word
    spelling = byte_spelling()
    byte_of_number = sorted(range(256), key=spelling.__getitem__)
    number_of_byte = bytes(sorted(range(256), key=byte_of_number.__getitem__))
    words = _Words(counts, number_of_byte, n_merges, min_count)
    if ties == "greatest-bytes":
        words.order_by_bytes(byte_of_number)
    words.find_pairs()
    merges: list[Pair] = []
    while len(merges) < n_merges and (pair := words.most_frequent_pair()):
        words.merge(pair, 256 + len(merges))
        merges.append(pair)
    own_id = [*byte_of_number, *range(256, 256 + n_merges)]
    return [(own_id[left], own_id[right]) for left, right in merges]


class _Words:
    """All words in one array of ids, each followed by `_END`; merges leave gaps, hence linked."""

    def __init__(
        self, counts: Counter[bytes], number_of_byte: bytes, n_merges: int, min_count: int
    ) -> None:
        lengths = np.fromiter(map(len, counts), dtype=np.int64, count=len(counts))
        is_end = np.zeros(lengths.sum() + len(lengths), dtype=bool)
        is_end[np.cumsum(lengths + 1) - 1] = True
        place = _type_up_to(len(is_end))
        self.ids = np.full(len(is_end), _END, dtype=np.int32)
        letters = b"".join(counts).translate(number_of_byte)
        self.ids[~is_end] = np.frombuffer(letters, dtype=np.uint8)
        weight = _type_up_to(max(counts.values(), default=0))
        weights = np.fromiter(counts.values(), dtype=weight, count=len(counts))
        self.weights = np.repeat(weights, lengths + 1)
        """The count of the word that a position belongs to."""
        self.after = np.arange(1, len(is_end) + 1, dtype=place)
        self.before = np.arange(-1, len(is_end) - 1, dtype=place)  # -1 is the last one, an end
        self.base = 256 + n_merges
        self.key = _type_up_to(self.base**2)
        self.min_count = max(1, min_count)
        self.heap: list[tuple[Any, ...]] = []
        """Pairs as (-count, left * base + right): in this order, ties are resolved correctly."""
        self.falling: list[str] = []
        """Of each id, text that falls in order when its bytes rise; empty if ids decide ties."""
        self.pairs_with: dict[int, _Pairs] = {}
        """Pairs by the newer of their two ids; all pairs of bytes are at 255."""

    def order_by_bytes(self, byte_of_number: list[int]) -> None:
        """Resolve ties by the bytes of the two tokens, the greatest first."""
        self.falling = [chr(255 - byte) + _BEYOND_BYTES for byte in byte_of_number]

    def find_pairs(self) -> None:
        """Count the pairs of bytes."""
        is_end = self.ids == _END
        places = np.flatnonzero(~is_end[:-1] & ~is_end[1:]).astype(self.after.dtype)
        self._add_pairs(255, self._keys(self.ids[places], self.ids[places + 1]), places)

    def most_frequent_pair(self) -> Pair | None:
        """Find the most frequent pair; None if no pair occurs often enough."""
        while self.heap:
            count, *tie, key = self.heap[0]
            pair: Pair = divmod(key, self.base)
            found = int(self.weights[self._places(pair)].sum(dtype=np.int64))
            if found == -count:
                return pair
            if found < self.min_count:
                heapq.heappop(self.heap)
            else:
                heapq.heapreplace(self.heap, (-found, *tie, key))
        return None

    def merge(self, pair: Pair, made: int) -> None:
        """Replace every occurrence of the pair by the id `made`, from left to right."""
        heapq.heappop(self.heap)
        if self.falling:
            self.falling.append(self.falling[pair[0]][:-1] + self.falling[pair[1]])
        places = self._places(pair)
        if pair[0] == pair[1]:
            places = _every_other(places, self.after)
        second = self.after[places]
        prior, beyond = self.before[places], self.after[second]
        self.ids[places], self.ids[second] = made, _GONE
        self.after[places], self.before[beyond] = beyond, places
        left, right = self.ids[prior], self.ids[beyond]  # prior is gone if it was merged as well
        has_left, has_right = left >= 0, right >= 0
        new = np.int32(made)
        keys = (self._keys(left[has_left], new), self._keys(new, right[has_right]))
        where = (prior[has_left], places[has_right])
        self._add_pairs(made, np.concatenate(keys), np.concatenate(where))

    def _keys(self, left: Any, right: Any) -> Places:
        """Number pairs of ids, of which one may be a single id of numpy's type."""
        keys: Places = left.astype(self.key) * self.base + right.astype(self.key)
        return keys

    def _places(self, pair: Pair) -> Places:
        """Find the positions of a pair, among those where it was when it was created."""
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
        counts = np.add.reduceat(self.weights[pairs.places], pairs.edges[:-1], dtype=np.int64)
        often = counts >= self.min_count
        for count, key in zip((-counts[often]).tolist(), pairs.keys[often].tolist(), strict=True):
            if self.falling:
                left, right = divmod(key, self.base)
                heapq.heappush(self.heap, (count, self.falling[left], self.falling[right], key))
            else:
                heapq.heappush(self.heap, (count, key))
        self.pairs_with[newer] = pairs


def _type_up_to(largest: int) -> np.dtype[Any]:
    """Return the smallest type for numbers up to this one: the arrays take most of the memory."""
    return np.dtype(np.int32 if largest < 2**31 else np.int64)


class _Pairs:
    """The positions of many pairs, sorted by the key of their pair."""

    def __init__(self, key_of_place: Places, places: Places) -> None:
        self.places = places
        starts = np.flatnonzero(np.append(True, key_of_place[1:] != key_of_place[:-1]))
        self.keys = key_of_place[starts]
        self.edges = np.append(starts, len(places))

    def places_of(self, key: int) -> Places:
        index = self.keys.searchsorted(key)
        found: Places = self.places[self.edges[index] : self.edges[index + 1]]
        return found


def _every_other(places: Places, after: Places) -> Places:
    """Keep every other of adjacent positions (as in a a a), starting with the first."""
    number = np.arange(len(places))
    begins = np.append(True, after[places[:-1]] != places[1:])
    in_run = number - np.maximum.accumulate(np.where(begins, number, 0))
    kept: Places = places[in_run % 2 == 0]
    return kept
