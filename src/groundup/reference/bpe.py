"""Byte-pair encoding as one would explain it: count all pairs, merge the commonest, start over.

Quadratic and short, to read and to hold the fast one in `groundup.tokenizer` against.
"""

from collections import Counter
from collections.abc import Sequence

Pair = tuple[int, int]


def merge(ids: Sequence[int], pair: Pair, new_id: int) -> list[int]:
    """Put the new id wherever the pair stands, from left to right.

    >>> merge([1, 2, 1, 2, 1], (1, 2), 9)
    [9, 9, 1]
    """
    merged: list[int] = []
    at = 0
    while at < len(ids):
        if tuple(ids[at : at + 2]) == pair:
            merged.append(new_id)
            at += 2
        else:
            merged.append(ids[at])
            at += 1
    return merged


def learn(pretokens: Sequence[bytes], n_merges: int) -> list[Pair]:
    """Learn merges; the k-th makes id 256 + k. Stops when no pair occurs twice.

    Ties go to the pair that is first in Hugging Face's numbering of the bytes: the printable ones
    come before the others.

    Source: Sennrich, Haddow and Birch (2016), "Neural Machine Translation of Rare Words with
    Subword Units", algorithm 1.

    >>> learn([b"low", b"low", b"lower"], 2) == [(ord("l"), ord("o")), (256, ord("w"))]
    True
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    numbering = [*printable, *sorted(set(range(256)) - set(printable)), *range(256, 256 + n_merges)]
    place = {index: number for number, index in enumerate(numbering)}
    words = [list(pretoken) for pretoken in pretokens]
    merges: list[Pair] = []
    while len(merges) < n_merges:
        counts = Counter(pair for ids in words for pair in zip(ids, ids[1:], strict=False))
        if not counts or max(counts.values()) < 2:
            break
        best = min(counts, key=lambda pair: (-counts[pair], place[pair[0]], place[pair[1]]))
        words = [merge(ids, best, 256 + len(merges)) for ids in words]
        merges.append(best)
    return merges


def encode(pretoken: bytes, merges: Sequence[Pair]) -> list[int]:
    """Apply the merges in the order in which they were learnt.

    >>> encode(b"lowlow", [(108, 111), (256, 119)])
    [257, 257]
    """
    ids = list(pretoken)
    for number, pair in enumerate(merges):
        ids = merge(ids, pair, 256 + number)
    return ids
