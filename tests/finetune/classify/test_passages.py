"""Labels from the text itself: no overlap, no repeated document, the same number of each."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.finetune.classify.passages import blocks_for_test, cut_passages, passages_by_source
from groundup.text.documents import Document


def prose(seed: int, n_words: int) -> str:
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghij", k=rng.randint(2, 8))) for _ in range(n_words)]
    return "\n".join(" ".join(words[i : i + 12]) for i in range(0, n_words, 12))


@given(text=st.text(alphabet="ab \n", max_size=300), n=st.integers(1, 50))
def test_passages_are_the_words_in_order(text: str, n: int) -> None:
    passages = cut_passages(text, n)
    words = " ".join(passages).split()
    assert words == text.split()[: len(words)]
    assert all(len(passage) >= n for passage in passages)
    # What is left out is too short for one more passage.
    assert len(" ".join(text.split()[len(words) :])) < n


def test_documents_become_classes_without_overlap() -> None:
    documents = [Document(f"book/{k}.txt", prose(k, 500 + 100 * k)) for k in range(5)]
    split = passages_by_source(documents, n_classes=3, n_characters=80, test_frac=0.3)
    assert set(split.names) == {"2", "3", "4"}
    for side in (split.train, split.test):
        counts = Counter(e.label for e in side)
        assert len(set(counts.values())) == 1
    for name in split.names:
        whole = " ".join(documents[int(name)].text.split())
        # Every passage stands in its document, and they tile its beginning without overlap.
        passages = [e.text for e in split.train + split.test if e.label == name]
        starts = sorted((whole.index(passage), len(passage)) for passage in passages)
        assert starts[0][0] == 0
        assert all(a + n + 1 == b for (a, n), (b, _) in zip(starts, starts[1:], strict=False))


@given(n=st.integers(4, 400), test_frac=st.floats(0.05, 0.9))
def test_about_the_asked_share_is_tested(n: int, test_frac: float) -> None:
    tested = blocks_for_test(n, test_frac)
    assert len(tested) == n
    assert 0 < sum(tested) < n
    block = max(1, min(5, n // 8))
    assert abs(sum(tested) - test_frac * n) <= 2 * block


def test_a_document_that_repeats_a_larger_one_is_passed_over() -> None:
    large, other, third = (prose(k, n) for k, n in ((1, 1500), (2, 900), (3, 800)))
    inside = "\n".join(large.splitlines()[:90])
    documents = [Document(n, t) for n, t in zip("abcd", (large, inside, other, third), strict=True)]
    split = passages_by_source(documents, n_classes=3, n_characters=80, test_frac=0.3)
    assert set(split.names) == {"a", "c", "d"}
    assert split.left_out["documents that repeat a larger one"] == 1
    assert split.left_out["smaller documents"] == 0
    passages = [len(cut_passages(text, 80)) for text in (large, other, third)]
    left = [count for what, count in split.left_out.items() if what.startswith("passages")]
    assert left == [sum(passages) - 3 * min(passages)]


def test_a_single_document_is_labelled_by_its_parts() -> None:
    split = passages_by_source(
        [Document("story", prose(0, 2000))], n_classes=4, n_characters=100, test_frac=0.25
    )
    assert split.names == ("part 1", "part 2", "part 3", "part 4")
    assert "part" in split.source


def test_too_short_a_text_says_what_to_do() -> None:
    with pytest.raises(UserError, match="labeled texts"):
        passages_by_source(
            [Document("note", "a few words")], n_classes=4, n_characters=100, test_frac=0.25
        )
    with pytest.raises(UserError, match="passages"):
        passages_by_source([], n_classes=4, n_characters=100, test_frac=0.25)


def test_the_settings_of_the_error_work() -> None:
    documents = [Document("note", prose(0, 130))]
    with pytest.raises(UserError) as caught:
        passages_by_source(documents, n_classes=5, n_characters=200, test_frac=0.25)
    settings = caught.value.settings
    assert settings["n_classes"] == 2
    split = passages_by_source(
        documents,
        n_classes=2,
        n_characters=int(str(settings["passage_characters"])),
        test_frac=0.25,
    )
    assert split.names == ("part 1", "part 2")


def test_a_training_passage_is_not_tested() -> None:
    line = "the same line again and again and again in this place\n"
    documents = [Document("a", line * 60 + prose(1, 20)), Document("b", prose(2, 900))]
    split = passages_by_source(documents, n_classes=2, n_characters=53, test_frac=0.3)
    assert not {e.text for e in split.train} & {e.text for e in split.test}
    assert split.n_duplicates > 0
