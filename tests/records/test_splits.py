"""Splits and folds: complete, balanced, and without near duplicates across them."""

import tracemalloc
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import peer
from sklearn.model_selection import StratifiedGroupKFold

from groundup.base.errors import UserError
from groundup.records.splits import Split, book_split, folds, require_sets, split

ROWS = st.lists(st.tuples(st.sampled_from("aab"), st.integers(0, 12)), min_size=8, max_size=60)


def sets(found: Split) -> tuple[list[int], list[int], list[int]]:
    return found.train, found.validation, found.test


@given(ROWS, st.integers(0, 5), st.sampled_from(["grouped", "random"]))
def test_every_row_is_in_one_set_and_no_group_in_two(rows, seed, how) -> None:
    labels, groups = [label for label, _ in rows], [group for _, group in rows]
    if len(set(groups)) < 3:
        return
    found = split(labels, groups, test_frac=0.2, validation_frac=0.1, seed=seed, how=how)
    assert sorted(row for rows in sets(found) for row in rows) == list(range(len(labels)))
    if how == "grouped":
        kept = [{groups[row] for row in rows} for rows in sets(found)]
        assert sum(map(len, kept)) == len(set(groups))
    assert found == split(labels, groups, test_frac=0.2, validation_frac=0.1, seed=seed, how=how)


@given(ROWS, st.integers(2, 5), st.integers(0, 5))
def test_folds_keep_groups_together(rows, n_folds, seed) -> None:
    labels, groups = [label for label, _ in rows], [group for _, group in rows]
    if len(set(groups)) < n_folds:
        with pytest.raises(UserError, match=f"{n_folds} groups are expected"):
            folds(labels, groups, n_folds, seed)
        return
    found = folds(labels, groups, n_folds, seed)
    assert sorted(row for fold in found for row in fold) == list(range(len(labels)))
    assert sum(len({groups[row] for row in fold}) for fold in found) == len(set(groups))


def test_fractions_and_labels_are_met() -> None:
    labels = ["ham"] * 800 + ["spam"] * 200
    found = split(labels, range(1000), test_frac=0.2, validation_frac=0.1, seed=3)
    assert [Counter(labels[i] for i in rows) for rows in sets(found)] == [
        {"ham": 560, "spam": 140},
        {"ham": 80, "spam": 20},
        {"ham": 160, "spam": 40},
    ]
    other = split(labels, range(1000), test_frac=0.2, validation_frac=0.1, seed=4)
    assert len(set(found.test) & set(other.test)) < 100


def test_a_rare_label_is_in_every_set() -> None:
    labels = ["ham"] * 97 + ["spam"] * 3
    for rows in sets(split(labels, range(100), test_frac=0.1, validation_frac=0.1, seed=0)):
        assert "spam" in {labels[row] for row in rows}


def test_a_large_group_goes_where_there_is_room() -> None:
    groups = [0] * 40 + list(range(1, 61))
    found = split(None, groups, test_frac=0.2, validation_frac=0.1, seed=0)
    assert 0 in found.train
    assert tuple(map(len, sets(found))) == (70, 10, 20)


@pytest.mark.parametrize("seed", range(5))
def test_folds_are_as_even_as_those_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 150, 400).tolist()
    labels = rng.choice(["a", "b", "c"], 400, p=[0.7, 0.2, 0.1]).tolist()

    def spread(of: list[list[int]]) -> int:
        counts = [Counter(labels[row] for row in fold) for fold in of]
        return sum(max(c[x] for c in counts) - min(c[x] for c in counts) for x in "abc")

    theirs = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(labels, labels, groups)
    assert spread(folds(labels, groups, 5, seed)) <= spread([list(test) for _, test in theirs])


def test_too_few_groups() -> None:
    with pytest.raises(UserError, match=r"form 2 groups of near duplicates\. At least 3 groups"):
        split(None, [0, 0, 1], test_frac=0.2, validation_frac=0.1, seed=0)
    split(None, [0, 0, 1], test_frac=0.2, validation_frac=0.0, seed=0)


def test_large_groups_may_leave_a_set_empty() -> None:
    groups = [0] * 40 + [1] * 30 + [2] * 30
    found = split(None, groups, test_frac=0.1, validation_frac=0.05, seed=0)
    with pytest.raises(UserError, match="100 rows are so large that the test set is empty"):
        require_sets(found, validation=True)
    assert require_sets(Split([0], [], [1]), validation=False).train == [0]


def test_memory_does_not_follow_the_number_of_labels() -> None:
    n = 4_000
    tracemalloc.start()
    found = split([str(i) for i in range(n)], range(n), test_frac=0.2, validation_frac=0, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.train) + len(found.test) == n
    assert peak < 20e6, "a table of groups and labels has 128 MB"


@pytest.mark.parametrize("seed", [123, 0, 5])
def test_the_split_of_the_book(seed: int) -> None:
    pandas = peer("pandas")
    rng = np.random.default_rng(seed)
    labels = rng.choice(["ham", "spam"], 700, p=[0.8, 0.2]).tolist()
    frame = pandas.DataFrame({"label": labels})
    spam = frame[frame.label == "spam"]
    ham = frame[frame.label == "ham"].sample(len(spam), random_state=seed)
    frame = pandas.concat([ham, spam]).sample(frac=1, random_state=seed)
    found = book_split(labels, seed=seed)
    assert [row for rows in sets(found) for row in rows] == list(frame.index)
    assert list(pairwise(np.cumsum([0, *map(len, sets(found))]))) == [
        (0, int(len(frame) * 0.7)),
        (int(len(frame) * 0.7), int(len(frame) * 0.7) + int(len(frame) * 0.1)),
        (int(len(frame) * 0.7) + int(len(frame) * 0.1), len(frame)),
    ]
    with pytest.raises(UserError, match=r"The number of classes is 1\."):
        book_split(["ham", "ham"])
