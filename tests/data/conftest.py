"""Defects to inject into the order and the windows, and what it means that a test catches one.

Hypothesis has no deadline here: a busy machine is not a failure.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import settings

from groundup.data import order as order_module
from groundup.data.order import Permutation
from groundup.data.windows import Windows

settings.register_profile("any-speed", deadline=None)
settings.load_profile("any-speed")


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
