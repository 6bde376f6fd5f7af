"""Near duplicates of rows, compared with all pairs."""

import random
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.text import near_duplicates, similarity_join
from groundup.text.near_duplicates import (
    Rule,
    fold,
    group_near_duplicates,
    has_near_duplicate,
    near_references,
    nearest,
)

TEXTS = st.lists(
    st.one_of(
        st.text("ab 1.", max_size=14),
        st.text(max_size=8),
        st.sampled_from(["call 0871 now", "Call 0999 now!", "call me now", "win a prize"]),
    ),
    max_size=14,
)
THRESHOLDS = st.sampled_from([0.2, 0.5, 0.6, 0.7, 0.75, 0.9, 1.0])
N = st.integers(1, 6)


def grams(text: str, n: int, fold_digits: bool) -> set[str]:
    text = fold(text, fold_digits=fold_digits)
    return {text[i : i + n] for i in range(len(text) - n + 1)} or {text}


def jaccard(a: str, b: str, n: int, fold_digits: bool = True) -> float:
    x, y = grams(a, n, fold_digits), grams(b, n, fold_digits)
    return len(x & y) / len(x | y)


def components(texts: list[str], threshold: float, n: int, fold_digits: bool) -> list[int]:
    group = list(range(len(texts)))
    for i, j in combinations(range(len(texts)), 2):
        if jaccard(texts[i], texts[j], n, fold_digits) >= threshold:
            kept, lost = sorted((group[i], group[j]))
            group = [kept if g == lost else g for g in group]
    numbers = {g: k for k, g in enumerate(dict.fromkeys(group))}
    return [numbers[g] for g in group]


@given(TEXTS, THRESHOLDS, N, st.booleans())
def test_groups_are_those_of_all_pairs(
    texts: list[str], threshold: float, n: int, fold_digits: bool
) -> None:
    groups = group_near_duplicates(texts, Rule(threshold, n, fold_digits))
    assert groups.group == components(texts, threshold, n, fold_digits)
    assert groups.n_groups == len(set(groups.group))
    assert groups.n_exact_repeats == len(texts) - len(set(texts))
    assert len(groups.pairs) == len(texts) - groups.n_groups
    for i, j, similarity in groups.pairs:
        assert i < j
        assert groups.group[i] == groups.group[j]
        assert similarity == jaccard(texts[i], texts[j], n, fold_digits) >= threshold


@given(TEXTS, TEXTS, THRESHOLDS, N)
def test_near_duplicates_among_references_are_those_of_all_pairs(
    texts: list[str], references: list[str], threshold: float, n: int
) -> None:
    best = [max((jaccard(t, r, n) for r in references), default=0.0) for t in texts]
    assert has_near_duplicate(texts, references, Rule(threshold, n)) == [
        similarity >= threshold for similarity in best
    ]
    for text, found, similarity in zip(
        texts, near_references(texts, references, Rule(threshold, n)), best, strict=True
    ):
        if similarity < threshold:
            assert found is None
        else:
            first = next(k for k, r in enumerate(references) if jaccard(text, r, n) == similarity)
            assert found == (first, similarity)


@given(TEXTS, TEXTS.filter(bool), N)
def test_nearest_is_the_first_of_the_most_similar(
    texts: list[str], references: list[str], n: int
) -> None:
    for text, (index, similarity) in zip(texts, nearest(texts, references, Rule(n=n)), strict=True):
        all_of_them = [jaccard(text, r, n) for r in references]
        assert similarity == max(all_of_them)
        assert index == all_of_them.index(similarity)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_small_blocks_give_the_same_groups(seed: int) -> None:
    rng = random.Random(seed)
    words = ["win", "call", "now", "prize", "hello", "there", "love"]
    texts = [" ".join(rng.choices(words, k=rng.randint(1, 6))) for _ in range(60)]
    expected = group_near_duplicates(texts, Rule(0.5))
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(similarity_join, "_BLOCK", 20)
        context.setattr(similarity_join, "_CHUNK", 3)
        context.setattr(near_duplicates, "_CHUNK", 3)
        context.setattr(near_duplicates, "_FREQUENT", 2)
        small = group_near_duplicates(texts, Rule(0.5))
    assert small.group == expected.group == components(texts, 0.5, 5, True)


def test_grams_that_do_not_fit_an_integer_stay_different() -> None:
    """With 256 letters, the first of nine would vanish modulo 2^64."""
    letters = "".join(map(chr, range(0x4E00, 0x4E00 + 256)))
    texts = [letters, letters[0] + letters[10:18], letters[1] + letters[10:18]]
    assert group_near_duplicates(texts, Rule(n=9)).group == [0, 1, 2]


def test_folding() -> None:
    assert fold("ＦＵＬＬ Width, ٣ ½") == "full width 0 0\u20440"
    assert fold("Fuß_ball—naïve") == "fuss ball naïve"
    assert fold("2+2=4", fold_digits=False) != fold("2=2+4", fold_digits=False)
    assert fold("love it 😀") != fold("love it 😡")
    assert fold(" ... ") == "..."
    assert fold(" \0\u200b") == ""


def test_no_texts() -> None:
    assert group_near_duplicates([]).n_groups == 0
    assert has_near_duplicate([], ["a"]) == []
    assert has_near_duplicate(["a"], []) == [False]
    assert nearest([], ["a"]) == []


def test_a_template_does_not_need_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of comparisons grows with the number of texts, not with its square."""
    rng = random.Random(0)
    counts = []

    def counted(rows, others, i, j):
        counts.append(len(i))
        return similarity_join.jaccard_of(rows, others, i, j)

    monkeypatch.setattr(near_duplicates, "jaccard_of", counted)
    n = 1500
    names = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(n)]
    rest = "your order was shipped and will arrive within three days. Thank you for buying here."
    texts = [f"Dear {name}, {rest}" for name in names]
    assert group_near_duplicates(texts).n_groups == 1
    assert sum(counts) < 20 * n
