"""What the report says: the comparison with the best baseline, and both log-probabilities."""

import numpy as np
import pytest
import torch

from groundup.alignment.prefer.evaluation import (
    TUNED,
    UNTUNED,
    PreferenceReport,
    preference_report,
)
from groundup.alignment.prefer.losses import PairLogProbabilities


def report(
    n_right: int, n_baseline: int, n: int = 100, chosen: float = 1.0, rejected: float = -1.0
) -> PreferenceReport:
    def scores(right: int) -> np.ndarray:
        return np.where(np.arange(n) < right, 1.0, -1.0)

    ratios = np.tile([chosen, rejected], (n, 1))
    return PreferenceReport(
        scores={TUNED: scores(n_right), "word TF-IDF": scores(n_baseline), UNTUNED: scores(3)},
        log_ratios=ratios,
    )


def test_scores_are_those_of_the_log_probabilities() -> None:
    policy = torch.tensor([[-5.0, -9.0], [-4.0, -4.0], [-3.0, -1.0], [-2.0, -2.0]])
    reference = torch.tensor([[-6.0, -6.0], [-4.0, -5.0], [-3.0, -1.0], [-3.0, -2.0]])
    pairs = PairLogProbabilities(policy, reference, torch.ones(4, 2).long())
    found = preference_report(pairs, {"longer answer": np.array([1.0, 1.0, 0.0, 2.0])})
    assert found.scores[TUNED].tolist() == [4.0, -1.0, 0.0, 1.0]  # a tie is wrong
    assert found.scores[UNTUNED].tolist() == [0.0, 1.0, -2.0, -1.0]
    assert {name: share.n_right for name, share in found.shares.items()} == {
        TUNED: 2,
        "longer answer": 3,
        UNTUNED: 1,
    }
    assert found.best_baseline == "longer answer"
    assert found.chosen_nats.mean == pytest.approx(0.5)
    assert found.rejected_nats.mean == pytest.approx(-0.5)
    table = found.to_table()
    assert table["accuracy"][TUNED]["n_ties"] == 1
    assert table["difference"]["n_only_tuned_right"] == 0
    assert table["difference"]["n_only_baseline_right"] == 1
    assert found.only([1, 3]).scores[TUNED].tolist() == [-1.0, 1.0]
    joined = PreferenceReport.joined([found.only([0]), found.only([1, 2, 3])])
    assert joined.to_table() == table


@pytest.mark.parametrize(
    ("n_right", "n_baseline", "words"),
    [
        (95, 80, "clearly better (+15.0 points, 95 % interval"),
        (80, 95, "clearly worse (-15.0 points, 95 % interval"),
        (90, 89, "no clear difference (+1.0 points, 95 % interval"),
    ],
)
def test_the_verdict_compares_with_the_best_baseline(
    n_right: int, n_baseline: int, words: str
) -> None:
    sentence = report(n_right, n_baseline).sentences()[0]
    assert f"in {n_right} of 100 test pairs" in sentence
    assert f"the best baseline (word TF-IDF) in {n_baseline}" in sentence
    assert words in sentence


def test_few_pairs_are_not_compared() -> None:
    sentence = report(29, 5, n=29).sentences()[0]
    assert "too few pairs to compare: at least 30 are expected" in sentence
    assert "clear" not in sentence
    assert "clearly better" in report(30, 5, n=30).sentences()[0]


@pytest.mark.parametrize(
    ("chosen", "rejected", "words"),
    [
        (0.5, -2.0, "The chosen answers became likelier (log p +0.50 nats)"),
        (-0.5, -2.0, "WARNING: The chosen answers became less likely (log p -0.50 nats); the ma"),
        (-2.0, -0.5, "(log p -2.00 nats); the rejected ones did not fall as much (-0.50 nats)"),
    ],
)
def test_a_fall_of_the_chosen_answers_is_flagged(
    chosen: float, rejected: float, words: str
) -> None:
    found = report(90, 80, chosen=chosen, rejected=rejected)
    assert words in found.sentences()[1]
    assert found.chosen_fell == (chosen < 0)
    assert found.to_table()["chosen_fell"] == found.chosen_fell
