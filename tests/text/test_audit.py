"""The audit: planted duplicates are found, text without duplicates is not reported."""

import random
from functools import partial

from complexity import lines_run

from groundup.text.audit import Repeats, audit
from groundup.text.builtin import python_reference
from groundup.text.documents import Document

WORDS = [f"{a}{b}" for a in ("ka", "lo", "mi", "nu", "pe") for b in ("ra", "so", "ti", "ve", "zu")]


def passage(seed: int, n_words: int = 40) -> str:
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) for _ in range(n_words))


def document(name: str, *passages: str) -> Document:
    return Document(name, "\n\n".join(passages))


def test_exact_duplicates_are_counted_within_and_across() -> None:
    train = [document("a", passage(1), passage(2)), document("b", passage(2), passage(3))]
    validation = [document("c", passage(3).upper().replace(" ", "\n"), passage(4))]
    found = audit(train, validation)
    assert (found.n_passages_train, found.n_passages_validation) == (4, 2)
    assert found.within_train.n_exact == 1
    assert found.across.n_exact == 1, "neither case nor line ends hide a duplicate"
    assert (found.across.examples[0].first, found.across.examples[0].second) == ("b", "c")
    assert found.leaked_frac == 0.5


def test_near_duplicates_are_found() -> None:
    words = passage(1, 120).split()
    words[60] = "changed"
    found = audit([document("a", passage(1, 120))], [document("b", " ".join(words), passage(9))])
    assert (found.across.n_exact, found.across.n_near) == (0, 1)
    # one word changed of 120: 3 of 118 shingles differ on either side
    assert found.across.examples[0].jaccard > 0.9


def test_near_duplicates_within_a_side_are_found() -> None:
    words = passage(1, 120).split()
    words[60] = "changed"
    again = " ".join(words)
    train = [document("a", passage(1, 120), passage(2)), document("b", again)]
    validation = [document("c", passage(3, 120)), document("d", passage(3, 120) + " zu ra")]
    found = audit(train, validation)
    assert (found.within_train.n_near, found.within_validation.n_near) == (1, 1)
    example = found.within_train.examples[0]
    assert (example.first, example.second) == ("a", "b")
    assert found.across == Repeats()


def test_many_near_duplicates_of_one_passage_are_no_square_of_work() -> None:
    lines = [f"{passage(1, 60)} request number {n}" for n in range(1600)]

    def look(n: int) -> None:
        found = audit([document("log", *lines[:n])], [document("b", passage(2))])
        assert found.within_train.n_near == n - 1

    look(10)  # loads the models of languages, once
    small, large = (lines_run(partial(look, n)) for n in (400, 1600))
    assert large < 5 * small  # quadratic: 16 times as many for four times the passages


def test_different_text_and_short_lines_are_no_duplicates() -> None:
    found = audit([document("a", "Yes.", passage(1))], [document("b", "Yes.", passage(2))])
    assert found.across == Repeats()


def test_the_built_in_text_hardly_repeats_itself() -> None:
    documents = list(python_reference())
    found = audit(documents[::2], documents[1::2])
    assert found.leaked_frac < 0.02
