"""Byte-pair encoding, slow and simple: count all pairs, merge the most frequent one, repeat.

Quadratic and short: to be read, and for tests to compare with `groundup.tokenizer`.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

Pair = tuple[int, int]


def merge(ids: Sequence[int], pair: Pair, new_id: int) -> list[int]:
    """Replace every occurrence of the pair by the new id, from left to right.

    >>> merge([1, 2, 1, 2, 1], (1, 2), 9)
    [9, 9, 1]
    """
    merged: list[int] = []
    i = 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


def learn(
    pretokens: Sequence[bytes],
    n_merges: int,
    ties: Literal["lowest-id", "greatest-bytes"] = "lowest-id",
) -> list[Pair]:
    """Learn merges. Merge k, counted from 0, creates id 256 + k. Stop when no pair occurs twice.

    Among equally frequent pairs the first one in Hugging Face's order of the bytes is merged
    ("lowest-id"; printable bytes come before the others), or the one with the lexicographically
    greatest byte strings ("greatest-bytes").

    Source: Sennrich, Haddow and Birch (2016), "Neural Machine Translation of Rare Words with
    Subword Units", algorithm 1.

    >>> learn([b"low", b"low", b"lower"], 2) == [(ord("l"), ord("o")), (256, ord("w"))]
    True
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    ordered = [*printable, *sorted(set(range(256)) - set(printable)), *range(256, 256 + n_merges)]
    position = {token_id: number for number, token_id in enumerate(ordered)}
    words = [list(pretoken) for pretoken in pretokens]
    token = [bytes([value]) for value in range(256)]
    merges: list[Pair] = []
    while len(merges) < n_merges:
        counts = Counter(pair for ids in words for pair in zip(ids, ids[1:], strict=False))
        if not counts or max(counts.values()) < 2:
            break
        top = max(counts.values())
        most = [pair for pair in counts if counts[pair] == top]
        if ties == "greatest-bytes":
            best = max(most, key=lambda pair: (token[pair[0]], token[pair[1]]))
        else:
            best = min(most, key=lambda pair: (position[pair[0]], position[pair[1]]))
        token.append(token[best[0]] + token[best[1]])
        words = [merge(ids, best, 256 + len(merges)) for ids in words]
        merges.append(best)
    return merges


def encode(pretoken: bytes, merges: Sequence[Pair]) -> list[int]:
    """Apply the merges in the order in which they were learned.

    >>> encode(b"lowlow", [(108, 111), (256, 119)])
    [257, 257]
    """
    ids = list(pretoken)
    for number, pair in enumerate(merges):
        ids = merge(ids, pair, 256 + number)
    return ids
