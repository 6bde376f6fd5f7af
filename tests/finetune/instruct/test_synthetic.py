"""Synthetic records: the answers are correct, wrong ones are refused, no leak."""

import random
import re
from collections import Counter
from dataclasses import replace

import pytest

from groundup.base.errors import UserError
from groundup.finetune.instruct.synthetic import (
    ABOUT_ITSELF,
    GRADERS,
    Identity,
    Record,
    common_words,
    grade,
    make_synthetic_records,
)


def text(seed: int) -> str:
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(3, 8))) for _ in range(300)]
    return " ".join(random.Random(seed).choices(words, k=3000))


TRAIN, TEST = make_synthetic_records([text(1)], [text(2)], n_train=2700, n_test_per_kind=20, seed=3)


def solve(record: Record) -> str:
    """Answer a prompt by code that is independent of the generator."""
    question, _, material = record.prompt.partition(": ")
    words = material.split()
    if question.startswith("Is the word"):
        return "Yes" if question.split()[3] in words else "No"
    return {
        "Repeat this word": material,
        "Which word comes first": words[0],
        "Which word comes last": words[-1],
        "How many words are here": str(len(words)),
        "Which letter does this word begin with": material[0],
        "Write this word in capital letters": material.upper(),
    }[question]


def test_every_kind_occurs_and_every_answer_is_right() -> None:
    assert Counter(r.kind for r in TEST) == dict.fromkeys(GRADERS, 20)
    assert set(GRADERS) - {r.kind for r in TRAIN} == {"next word, new text"}
    assert min(Counter(r.kind for r in TRAIN).values()) > 100
    for record in TRAIN + TEST:
        assert grade(record, record.output)
        if not record.kind.startswith("next word"):
            assert grade(record, solve(record)), record


def test_wrong_answers_are_refused() -> None:
    for record in TEST:
        assert not grade(record, "")
        assert record.kind == "how many" or not grade(record, record.output + " and more")
        assert not grade(record, "xyzzy")


SINGLE = ("repeat", "first letter", "capitals")


def test_no_test_prompt_is_in_training() -> None:
    assert not {r.prompt for r in TRAIN} & {r.prompt for r in TEST}

    def asked(records: list[Record]) -> set[str]:
        return {r.prompt.partition(": ")[2] for r in records if r.kind in SINGLE}

    assert not asked(TRAIN) & asked(TEST)
    assert len(asked(TEST)) > 10


def test_yes_and_no_are_about_even() -> None:
    yes = [r.output == "Yes." for r in TRAIN if r.kind == "is it there"]
    assert 0.4 < sum(yes) / len(yes) < 0.6


def test_next_word_stands_in_the_text_it_is_said_to_be_from() -> None:
    for record in TRAIN + TEST:
        if record.kind.startswith("next word"):
            start = record.prompt.partition(": ")[2]
            said = record.output.rstrip(".").split()[-1]
            pattern = rf"\b{start} {said}\b"
            is_read = re.search(pattern, text(1)) is not None
            is_new = re.search(pattern, text(2)) is not None
            assert is_read if record.kind.endswith("read") else is_new and not is_read


def test_the_seed_decides() -> None:
    again = make_synthetic_records([text(1)], [text(2)], n_train=2700, n_test_per_kind=20, seed=3)
    assert again == (TRAIN, TEST)
    other = make_synthetic_records([text(1)], [text(2)], n_train=2700, n_test_per_kind=20, seed=4)
    assert other[0] != TRAIN


def test_too_few_words() -> None:
    with pytest.raises(UserError, match="instruction records"):
        make_synthetic_records(["one two one two"], [], n_train=10, n_test_per_kind=2, seed=0)


def test_common_words_do_not_depend_on_the_order_of_documents() -> None:
    assert common_words([text(1), text(2)]) == common_words([text(2), text(1)])


def test_an_assistant_learns_what_is_true_of_it() -> None:
    identity = Identity(name="story", n_parameters=1_870_016, trained_on="a.txt")
    train, test = make_synthetic_records(
        [text(1)], [text(2)], n_train=2700, n_test_per_kind=20, seed=3, identity=identity
    )
    about = [record for record in train if record.kind == ABOUT_ITSELF]
    assert len(about) == 270
    assert {replace(record, earlier=()) for record in about} == set(identity.records())
    later = [record for record in train if record.earlier]
    assert 0.1 < len(later) / len(train) < 0.2
    assert all(len(record.messages) == 4 for record in later)
    assert 0.3 < sum(bool(record.earlier) for record in about) / len(about) < 0.7
    answers = {record.prompt: record.output for record in about}
    assert answers["Who are you?"] == "I am story, a language model with 1.9 million parameters."
    assert answers["Hello"].startswith("Hello! I am story,")
    assert answers["What were you trained on?"] == "I was trained on a.txt."
    assert ABOUT_ITSELF not in {record.kind for record in test}
