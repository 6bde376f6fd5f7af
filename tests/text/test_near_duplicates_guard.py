"""Near duplicates are judged by their true similarity, not by the index that proposes them."""

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
    assert pairs >= 18  # the index may miss one
    assert below == 0
