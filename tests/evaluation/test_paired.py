"""Intervals and paired tests agree with scipy."""

import numpy as np
import pytest
from scipy import stats

from groundup.base.errors import UserError
from groundup.evaluation.paired import (
    MIN_ITEMS,
    bootstrap,
    mcnemar,
    paired_bootstrap,
    require_items,
)


def test_the_interval_is_that_of_scipy():
    values = np.random.default_rng(3).exponential(size=200)
    ours = bootstrap(values, n_resamples=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", random_state=7
    )
    low, high = theirs.confidence_interval
    assert ours.mean == pytest.approx(values.mean(), rel=1e-12)
    # Two draws of 20,000 resamples differ by about 1 % of the width.
    assert ours.low == pytest.approx(low, abs=0.03 * (high - low))
    assert ours.high == pytest.approx(high, abs=0.03 * (high - low))
    wider = bootstrap(values, confidence=0.99)
    assert wider.low < ours.low
    assert ours.high < wider.high


def test_chunks_do_not_change_the_interval(monkeypatch):
    values = np.random.default_rng(3).normal(size=100)
    whole = bootstrap(values)
    monkeypatch.setattr("groundup.evaluation.paired._CHUNK", 700)
    assert bootstrap(values) == whole
    assert bootstrap(values, seed=1) != whole


def test_pairing_finds_a_difference_that_two_intervals_hide():
    generator = np.random.default_rng(0)
    hardness = generator.normal(size=80)
    a, b = hardness + 0.1, hardness + generator.normal(scale=0.05, size=80)
    found = paired_bootstrap(a, b)
    assert found.mean == pytest.approx((a - b).mean(), rel=1e-9)
    assert found.is_clear
    assert bootstrap(b).low < bootstrap(a).low < bootstrap(b).high
    assert not paired_bootstrap(b, b).is_clear
    assert paired_bootstrap(b, a).is_clear


@pytest.mark.parametrize(("only_a", "only_b"), [(8, 0), (3, 3), (12, 4), (1, 0), (40, 61)])
def test_mcnemar_is_the_exact_binomial_test(only_a, only_b):
    a = [True] * only_a + [False] * only_b + [True, False, True]
    b = [False] * only_a + [True] * only_b + [True, False, True]
    found = mcnemar(a, b)
    assert (found.n_only_a, found.n_only_b) == (only_a, only_b)
    n = only_a + only_b
    tail = stats.binom.cdf(min(only_a, only_b), n, 0.5)
    assert found.p_value == pytest.approx(min(1, 2 * tail), rel=1e-9)


def test_models_that_agree_everywhere_do_not_differ():
    assert mcnemar([True, False], [True, False]).p_value == 1


@pytest.mark.parametrize("function", [paired_bootstrap, mcnemar])
def test_scores_of_other_items_are_refused(function):
    with pytest.raises(UserError, match="There are 2 scores of one model and 3 of the other"):
        function([1, 0], [1, 0, 1])
    with pytest.raises(UserError, match="at least one finite number"):
        function([], [])


def test_a_score_that_is_not_a_number_is_refused():
    with pytest.raises(UserError, match="finite number"):
        bootstrap([1.0, float("nan")])


def test_few_items_are_refused():
    require_items(MIN_ITEMS)
    with pytest.raises(UserError, match=r"29 pairs, which are too few to compare\. At least 30"):
        require_items(29, "pairs")
