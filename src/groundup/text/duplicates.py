"""Find near-duplicate passages by their three-word shingles.

Source: Broder (1997), "On the resemblance and containment of documents".
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from groundup.text.grams import word_grams, words_of
from groundup.text.similarity_join import candidate_pairs, jaccard_of
from groundup.text.split import Side

NEAR_JACCARD = 0.8
"""Passages are near duplicates if their Jaccard similarity is at least this."""
_SHINGLE_WORDS = 3


@dataclass(frozen=True, slots=True)
class Passage:
    """A block of text between blank lines, or a part of a long one."""

    side: Side
    document: str
    text: str


def find_near_duplicates(
    passages: Sequence[Passage],
) -> Iterator[tuple[Passage, Passage, float]]:
    """Find near duplicates as (earlier passage, later passage, Jaccard similarity).

    A validation passage is compared with both sides, a training passage only with its own. A
    passage that repeats an earlier one of its side is not compared with later ones.

    Args:
        passages: All passages, those of the training set first.
    """
    rows = word_grams((words_of(passage.text.lower()) for passage in passages), _SHINGLE_WORDS)
    is_first = np.zeros(len(passages), dtype=bool)  # of its side: later ones are compared with it
    start = 0
    for end, i, j in candidate_pairs(rows, rows, NEAR_JACCARD, is_triangle=True):
        is_open = is_first[j] | (j >= start)
        i, j = i[is_open], j[is_open]
        jaccard = jaccard_of(rows, rows, i, j)
        near: dict[int, list[tuple[int, float]]] = {}
        for later, earlier, similarity in zip(
            *(values[jaccard >= NEAR_JACCARD].tolist() for values in (i, j, jaccard)), strict=True
        ):
            near.setdefault(later, []).append((earlier, similarity))
        for number in range(start, end):
            found = [pair for pair in sorted(near.get(number, [])) if is_first[pair[0]]]
            sides: dict[Side, tuple[int, float]] = {}
            for earlier, similarity in found:
                sides.setdefault(passages[earlier].side, (earlier, similarity))
            for side in dict.fromkeys(("train", passages[number].side)):
                if side in sides:
                    earlier, similarity = sides[side]
                    yield passages[earlier], passages[number], similarity
            is_first[number] = passages[number].side not in sides
        start = end
