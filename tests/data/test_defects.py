"""Classic defects, injected: the property tests of order and windows must catch each of them."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from tests.data import test_order, test_windows

from groundup.data import order as order_module
from groundup.data.order import Permutation
from groundup.data.windows import Windows

Fails = Callable[[Callable[[], None]], bool]


@pytest.fixture
def fails() -> Callable[[Callable[[], None]], bool]:
    """Run a property test; True if its assertion fails. Any other exception is an error here too:
    it comes from an injection that no longer fits the code."""

    def run(test: Callable[[], None]) -> bool:
        try:
            test()
        except AssertionError:
            return True
        return False

    return run


@pytest.fixture
def logarithm_for_bit_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """The domain of the permutation is too small where n is a power of two plus one."""
    encrypt = Permutation._encrypt

    def within(self: Permutation, values: np.ndarray) -> np.ndarray:
        return encrypt(self, values & np.uint64((1 << self._bits) - 1))

    def bits(n: int) -> int:
        return max(2, math.ceil(math.log2(max(2, n - 1))))

    monkeypatch.setattr(order_module, "_bits", bits)
    monkeypatch.setattr(Permutation, "_encrypt", within)


@pytest.fixture
def float_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions pass through float64, which loses their last bits beyond 2**53."""
    encrypt = Permutation._encrypt

    def through_float(self: Permutation, values: np.ndarray) -> np.ndarray:
        return encrypt(self, values.astype(np.float64).astype(np.uint64))

    monkeypatch.setattr(Permutation, "_encrypt", through_float)


@pytest.fixture
def linear_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds that keep the low bits of a product: the parity of items follows the positions."""

    def encrypt(self: Permutation, values: np.ndarray) -> np.ndarray:
        left, right = values >> self._right_bits, values & self._mask
        for key, shift in self._rounds:
            low = (np.uint64(1) << (np.uint64(64) - shift)) - np.uint64(1)
            mixed = (right * np.uint64(0x9E3779B97F4A7C15) + key) & low
            left, right = right, left ^ mixed
        return (left << self._right_bits) | right

    monkeypatch.setattr(Permutation, "_encrypt", encrypt)


@pytest.fixture
def dropped_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact coverage without the last window, the one that is moved back to end with the text."""
    init = Windows.__init__

    def without_last(self: Windows, *arguments: object, **options: object) -> None:
        init(self, *arguments, **options)  # type: ignore[arg-type]
        if self.coverage == "exact" and (self.n_tokens - 1 - self.width) % self.stride:
            self._length -= 1

    monkeypatch.setattr(Windows, "__init__", without_last)


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
