"""The audit: planted duplicates are found, text without duplicates is not reported."""

import random
from functools import partial

import pytest
from complexity import lines_run

from groundup.text import audit as module
from groundup.text.audit import Auditor, Repeats, audit
from groundup.text.builtin import python_reference
from groundup.text.documents import Document
from groundup.text.pieces import Piece

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


@pytest.mark.parametrize("mark", ["\n", ". ", " "])
def test_a_copy_inside_a_long_block_is_found_wherever_it_begins(mark: str) -> None:
    words = [f"{word}{n}" for n in range(300) for word in WORDS]
    lines = [" ".join(words[n : n + 12]) for n in range(0, 7200, 12)]
    copied = lines[100:300]  # 16,000 characters
    train = document("a", mark.join(lines))
    validation = document("b", mark.join([passage(999, 12), *copied]))
    found = audit([train], [validation])
    assert found.n_passages_validation > 6
    n_leaked = found.across.n_exact + found.across.n_near
    # Where the copy begins and ends, a passage of each side contains other text, too.
    assert n_leaked >= found.n_passages_validation - 2
    assert found.within_train.n_exact + found.within_train.n_near == 0


def test_documents_of_one_beginning_are_no_duplicates() -> None:
    beginning = [passage(seed, 12) for seed in range(100)]
    documents = [
        document(f"{n}", "\n".join(beginning + [passage(1000 * n + k, 12) for k in range(400)]))
        for n in range(1, 5)
    ]
    found = audit(documents, [])
    assert 0.5 < found.within_train.n_exact / (3 / 4 * found.n_passages_train / 5) < 1.5


def test_each_character_of_a_long_block_is_in_one_passage() -> None:
    text = "\n".join(passage(seed, 12) for seed in range(600)) + "\n" + "x" * 9000
    passages = list(module._passages_of(text))
    assert "".join(passages) == text
    assert max(map(len, passages)) <= 4000
    assert 500 < len(text) / len(passages) < 2000


@pytest.mark.parametrize("first", [0x4E00, 0x3042, 0x0E01])
def test_scripts_without_spaces_are_examined(first: int) -> None:
    def text(seed: int) -> str:
        rng = random.Random(seed)
        return "".join(chr(first + rng.randrange(40)) for _ in range(60))

    found = audit([Document("a", text(1)), Document("b", text(2))], [Document("c", text(1))])
    assert (found.n_passages_train, found.n_passages_validation) == (2, 1)
    assert (found.across.n_exact, found.within_train.n_exact) == (1, 0)
    near = audit([Document("a", text(1))], [Document("b", text(1)[:58] + text(3)[:2])])
    assert (near.across.n_exact, near.across.n_near) == (0, 1)


def test_the_number_of_words_in_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_WORDS", 4000)
    auditor = Auditor()
    for seed in range(100):
        auditor.add("validation" if seed % 2 else "train", Piece(f"{seed}", passage(seed, 400)))
    kept = [p for side in auditor._kept.values() for found in side.values() for p in found]
    assert 0 < sum(len(p.text.split()) for p in kept) <= 4000
    assert auditor.finish().sampled_frac <= 1 / 8
