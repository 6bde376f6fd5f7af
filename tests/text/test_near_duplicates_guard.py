"""Near-duplicate passages: those of an exhaustive comparison in the same order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.text import similarity_join
from groundup.text.duplicates import NEAR_JACCARD, Passage, find_near_duplicates


def shingles(text: str) -> set[str]:
    words = text.split()
    return {" ".join(words[i : i + 3]) for i in range(len(words) - 2)}


def jaccard(a: Passage, b: Passage) -> float:
    first, second = shingles(a.text), shingles(b.text)
    return len(first & second) / len(first | second)


def test_passages_that_share_less_than_the_threshold_are_no_duplicates() -> None:
    pairs, below = 0, 0
    for start in range(0, 20_000, 1000):
        words = [f"w{n}" for n in range(start, start + 120)]
        parts = (words, words[:94], words[26:], words[:110])
        passages = [Passage("train", f"{i}", " ".join(part)) for i, part in enumerate(parts)]
        assert 0.7 < jaccard(passages[0], passages[1]) < NEAR_JACCARD
        for earlier, later, found in find_near_duplicates(passages):
            assert found == jaccard(earlier, later) >= NEAR_JACCARD
            pairs += 1
        below += len(list(find_near_duplicates(passages[:3])))
    assert pairs == 20
    assert below == 0


PASSAGES = st.lists(
    st.tuples(st.sampled_from(["train", "validation"]), st.text("abc", min_size=6, max_size=12)),
    max_size=16,
)


@given(PASSAGES, st.booleans())
def test_the_first_passage_of_its_side_is_found(rows: list[tuple[str, str]], small: bool) -> None:
    rows = [*((s, t) for s, t in rows if s == "train"), *((s, t) for s, t in rows if s != "train")]
    passages = [Passage(side, f"{n}", " ".join(text)) for n, (side, text) in enumerate(rows)]  # type: ignore[arg-type]
    expected = []
    first: dict[str, list[Passage]] = {"train": [], "validation": []}
    for passage in passages:
        for side in dict.fromkeys(("train", passage.side)):
            near = [p for p in first[side] if jaccard(p, passage) >= NEAR_JACCARD]
            if near:
                expected.append((near[0], passage, jaccard(near[0], passage)))
            elif side == passage.side:
                first[side].append(passage)
    with pytest.MonkeyPatch().context() as context:
        if small:
            context.setattr(similarity_join, "_BLOCK", 4)
        assert list(find_near_duplicates(passages)) == expected
