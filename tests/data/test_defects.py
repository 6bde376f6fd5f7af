"""Classic defects, injected: the property tests of order and windows must catch each of them."""

from collections.abc import Callable

import numpy as np
import pytest
from tests.data import test_order, test_windows

from groundup.data.order import Permutation

Fails = Callable[[Callable[[], None]], bool]


@pytest.mark.usefixtures("logarithm_for_bit_length")
def test_a_logarithm_for_the_bit_length_is_caught(fails: Fails) -> None:
    assert fails(lambda: test_order.test_round_the_powers_of_two_too(4**6 + 1))
    assert fails(test_order.test_every_small_n_is_a_bijection)


@pytest.mark.usefixtures("float_positions")
def test_a_float_on_the_way_is_caught(fails: Fails) -> None:
    assert fails(lambda: test_order.test_large_n_is_exact_to_the_last_bit(2**62 - 57))


@pytest.mark.usefixtures("linear_rounds")
def test_a_linear_round_function_is_caught(fails: Fails) -> None:
    items = Permutation(1000, seed=0)(np.arange(1000))
    assert sorted(items.tolist()) == list(range(1000)), "still a bijection: only the mixing is bad"
    assert fails(test_order.test_positions_and_neighbours_look_random)
    assert fails(test_order.test_one_flipped_bit_of_the_place_flips_half_of_the_item)


@pytest.mark.usefixtures("dropped_tail")
def test_a_dropped_tail_is_caught(fails: Fails) -> None:
    assert fails(test_windows.test_exact_windows_have_every_target_once)


def test_without_a_defect_the_properties_hold(fails: Fails) -> None:
    assert not fails(lambda: test_order.test_round_the_powers_of_two_too(4**6 + 1))
    assert not fails(test_order.test_every_small_n_is_a_bijection)
    assert not fails(lambda: test_order.test_large_n_is_exact_to_the_last_bit(2**62 - 57))
    assert not fails(test_order.test_positions_and_neighbours_look_random)
    assert not fails(test_order.test_one_flipped_bit_of_the_place_flips_half_of_the_item)
    assert not fails(test_windows.test_exact_windows_have_every_target_once)


def test_a_broken_injection_is_not_a_caught_defect(
    fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An injection that uses what `Permutation` does not have is an error, not a success."""
    monkeypatch.setattr(Permutation, "_encrypt", lambda self, values: values >> self._half)
    with pytest.raises(AttributeError, match="_half"):
        fails(test_order.test_every_small_n_is_a_bijection)
