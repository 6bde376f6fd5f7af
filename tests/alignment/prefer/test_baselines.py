"""The baselines of preference accuracy, on the supplied pairs and on made ones."""

import json
from pathlib import Path

import numpy as np

from groundup.alignment.prefer.baselines import CHARACTERS, LONGER, WORDS, baseline_scores


def test_the_baselines_on_the_110_test_pairs_in_the_order_of_the_book(shared_data: Path) -> None:
    records = json.loads((shared_data / "preference-data.json").read_text())
    pairs = [(record["chosen"], record["rejected"]) for record in records]
    scores = baseline_scores(pairs[:935], pairs[935:1045])
    right = {name: int((s > 0).sum()) for name, s in scores.items()}
    assert right == {LONGER: 57, WORDS: 100, CHARACTERS: 102}  # 51.8 %, 90.9 % and 92.7 %
    assert sum(chosen == rejected for chosen, rejected in pairs) == 6


def test_swapping_the_answers_changes_the_sign() -> None:
    train = [(f"please take {i}", f"take {i} now") for i in range(9)]
    test = [("please go", "go now"), ("one two", "three")]
    swapped = [(rejected, chosen) for chosen, rejected in test]
    scores, opposite = baseline_scores(train, test), baseline_scores(train, swapped)
    for name in scores:
        np.testing.assert_allclose(scores[name], -opposite[name])
    assert scores[WORDS][0] > 0


def test_answers_without_a_word_are_ties() -> None:
    scores = baseline_scores([("!", "?")], [("?", "!")])
    assert scores[WORDS].tolist() == [0.0]
