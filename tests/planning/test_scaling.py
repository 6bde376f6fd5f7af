"""More learning and more parameters let expect less; a table of pairs is scored as by hand."""

import math

import numpy as np
import pytest

from groundup.planning.scaling import bigram_loss, expected_loss


def test_more_and_new_text_lowers_the_loss_that_is_expected():
    usual = expected_loss(10**6, 10**7, 10**9)
    assert expected_loss(10**6, 2 * 10**7, 10**9) < usual
    assert expected_loss(2 * 10**6, 10**7, 10**9) < usual
    # With a large vocabulary more targets are worth more than more parameters.
    for vocab_size, is_better in ((65, False), (2048, True), (50257, True)):
        smaller = expected_loss(221_184, 2_200_000, 10**7, vocab_size)
        larger = expected_loss(393_216, 1_540_000, 10**7, vocab_size)
        assert (smaller < larger) == is_better
    assert usual < expected_loss(10**6, 10**7, 10**6) < expected_loss(10**6, 10**6, 10**6)


def test_pairs_are_scored_as_by_hand():
    train, held_out = np.array([0, 1, 0, 2, 0, 1]), np.array([0, 1, 0, 2, 1, 1])
    single = np.array([3.5, 2.5, 1.5, 0.5]) / 8  # id 3 is never met
    # After 0: 1 twice, 2 once; after 1 and 2: 0 once each. 0.75 of each goes to the single ones.
    after_0 = np.array([0.0, 1.25, 0.25, 0.0]) / 3 + 1.5 * single / 3
    after_1_or_2 = np.array([0.25, 0.0, 0.0, 0.0]) / 1 + 0.75 * single / 1
    # 1 is met twice, but the last time nothing follows.
    shares = [after_0[1], after_1_or_2[0], after_0[2], after_1_or_2[1], after_1_or_2[1]]
    assert after_0.sum() == pytest.approx(1) == after_1_or_2.sum()
    expected = -sum(math.log(share) for share in shares) / 5
    assert bigram_loss(train, held_out, 4) == pytest.approx(expected)


def test_a_token_never_met_before_another_falls_back_on_single_ones():
    found = bigram_loss(np.array([0, 0, 1]), np.array([1, 0]), 2)  # nothing follows 1
    assert found == pytest.approx(-math.log(2.5 / 4))
