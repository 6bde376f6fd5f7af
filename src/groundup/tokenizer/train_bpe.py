"""Learning byte-pair encoding: count pretokens, then merge the commonest pair, again and again.

Only the words that hold the merged pair are touched, and the commonest pair comes from a heap
whose stale entries are passed over, so a merge costs what it changes. Ties go to the pair of lower
ids in Hugging Face's numbering (bytes in the order of their printable stand-ins, then the merges),
so that its trainer learns the same merges.
"""

import heapq
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import regex

from groundup.base.errors import UserError
from groundup.tokenizer.bpe import PATTERNS, BPETokenizer, Pair
from groundup.tokenizer.byte_spelling import byte_spelling
from groundup.tokenizer.special import SPECIAL_TOKENS

log = logging.getLogger(__name__)


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
    split = regex.compile(PATTERNS.get(pattern, pattern))
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(split.findall(text))
    return Counter(
        {word.encode("utf-8", errors="surrogatepass"): count for word, count in counts.items()}
    )


def learn_merges(counts: Counter[bytes], n_merges: int) -> list[Pair]:
    """Learn pairs from counted words; ids from 256 on are given in the order of learning."""
    words = [list(word) for word in counts]
    weights = list(counts.values())
    pair_counts: Counter[Pair] = Counter()
    holders: defaultdict[Pair, set[int]] = defaultdict(set)
    for index, (word, weight) in enumerate(zip(words, weights, strict=True)):
        for pair in zip(word, word[1:], strict=False):
            pair_counts[pair] += weight
            holders[pair].add(index)
    tie = _tie_order(n_merges)
    heap = [(-count, tie[pair[0]], tie[pair[1]], pair) for pair, count in pair_counts.items()]
    heapq.heapify(heap)
    merges: list[Pair] = []
    while heap and len(merges) < n_merges:
        negative, *_, pair = heapq.heappop(heap)
        count = pair_counts[pair]
        if count != -negative:  # stale: the pair has lost occurrences since
            if count > 0:
                heapq.heappush(heap, (-count, tie[pair[0]], tie[pair[1]], pair))
            continue
        if count < 2:
            break
        made = 256 + len(merges)
        merges.append(pair)
        changed: Counter[Pair] = Counter()
        for index in holders.pop(pair):
            words[index] = _apply(words[index], pair, made, weights[index], index, changed, holders)
        for other, difference in changed.items():
            pair_counts[other] += difference
            if difference > 0:
                heapq.heappush(heap, (-pair_counts[other], tie[other[0]], tie[other[1]], other))
        del pair_counts[pair]
    return merges


def _apply(
    word: list[int],
    pair: Pair,
    made: int,
    weight: int,
    index: int,
    changed: Counter[Pair],
    holders: defaultdict[Pair, set[int]],
) -> list[int]:
    """Merge a pair inside one word, left to right, and book what that does to its neighbours."""
    result: list[int] = []
    i = 0
    while i < len(word):
        if i + 1 < len(word) and (word[i], word[i + 1]) == pair:
            result.append(made)
            i += 2
        else:
            result.append(word[i])
            i += 1
    for old in zip(word, word[1:], strict=False):
        changed[old] -= weight
    for new in zip(result, result[1:], strict=False):
        changed[new] += weight
        holders[new].add(index)
    return result


def _tie_order(n_merges: int) -> list[int]:
    """Rank every id for ties: bytes by their printable stand-in, then merges by age."""
    spelling = byte_spelling()
    by_spelling = sorted(range(256), key=spelling.__getitem__)
    rank = {value: place for place, value in enumerate(by_spelling)}
    return [*(rank[value] for value in range(256)), *range(256, 256 + n_merges)]
