"""Classic defects, injected: the tests of order and windows must catch each of them."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from tests.data import test_order, test_windows

from groundup.data import order as order_room
from groundup.data.order import Permutation
from groundup.data.windows import Windows


def caught(test: Callable[[], None]) -> bool:
    try:
        test()
    except Exception:  # whatever way a test has to fail
        return True
    return False


def test_a_logarithm_for_the_bit_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """The domain is too small where n is a power of four and one more."""
    encrypt = Permutation._encrypt

    def within(self: Permutation, values: np.ndarray) -> np.ndarray:
        return encrypt(self, values & np.uint64((1 << self._bits) - 1))

    monkeypatch.setattr(order_room, "_bits", lambda n: max(2, math.ceil(math.log2(max(2, n - 1)))))
    monkeypatch.setattr(Permutation, "_encrypt", within)
    assert caught(lambda: test_order.test_round_the_powers_of_two_too(4**6 + 1))
    assert caught(test_order.test_every_small_n_is_a_bijection)


def test_a_float_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Permutation._encrypt

    def through_float(self: Permutation, values: np.ndarray) -> np.ndarray:
        return sound(self, values.astype(np.float64).astype(np.uint64))

    monkeypatch.setattr(Permutation, "_encrypt", through_float)
    assert caught(lambda: test_order.test_large_n_is_exact_to_the_last_bit(2**62 - 57))


def test_a_linear_round_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only low bits reach low bits: the parity of the items follows that of the places."""

    def encrypt(self: Permutation, values: np.ndarray) -> np.ndarray:
        left, right = values >> self._half, values & self._mask
        for key in self._keys:
            mixed = (right * np.uint64(0x9E3779B97F4A7C15) + key) & self._mask
            left, right = right, left ^ mixed
        return (left << self._half) | right

    monkeypatch.setattr(Permutation, "_encrypt", encrypt)
    assert caught(test_order.test_positions_and_neighbours_look_random)
    assert caught(test_order.test_one_flipped_bit_of_the_place_flips_half_of_the_item)


def test_a_dropped_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Windows.__init__

    def init(self: Windows, *arguments: object, **options: object) -> None:
        sound(self, *arguments, **options)  # type: ignore[arg-type]
        if self.coverage == "exact" and (self.n_tokens - 1 - self.width) % self.stride:
            self._length -= 1

    monkeypatch.setattr(Windows, "__init__", init)
    assert caught(test_windows.test_exact_windows_have_every_target_once)


def test_undisturbed_they_pass() -> None:
    assert order_room.Permutation is Permutation
    test_order.test_large_n_is_exact_to_the_last_bit(2**62 - 57)
    for test in (
        test_order.test_positions_and_neighbours_look_random,
        test_windows.test_exact_windows_have_every_target_once,
    ):
        test()
