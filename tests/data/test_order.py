"""The keyed permutation: a bijection for every n, unlike from epoch to epoch, and well mixed."""

import hashlib
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.data.order import Permutation

EDGES = sorted({2**k + d for k in range(1, 21) for d in (-1, 0, 1)} - {0})


class Reference:
    """The permutation in Python's own integers, one item at a time, and its inverse."""

    def __init__(self, n: int, *, seed: int, epoch: int = 0) -> None:
        self.n = n
        bits = max(2, len(f"{n - 1:b}"))
        self.right_bits = bits - bits // 2
        digest = hashlib.shake_256(f"groundup order {seed} {epoch}".encode()).digest(48)
        self.rounds = list(
            zip(struct.unpack("<6Q", digest), [bits // 2, self.right_bits] * 3, strict=True)
        )

    def item(self, value: int) -> int:
        while True:
            left, right = value >> self.right_bits, value % 2**self.right_bits
            for key, n_bits in self.rounds:
                left, right = right, left ^ self._mix(right ^ key, n_bits)
            value = left << self.right_bits | right
            if value < self.n:
                return value

    def position(self, value: int) -> int:
        while True:
            left, right = value >> self.right_bits, value % 2**self.right_bits
            for key, n_bits in reversed(self.rounds):
                left, right = right ^ self._mix(left ^ key, n_bits), left
            value = left << self.right_bits | right
            if value < self.n:
                return value

    @staticmethod
    def _mix(z: int, n_bits: int) -> int:
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return (z ^ z >> 31) >> 64 - n_bits


def _check_against_reference(
    places: np.ndarray, items: np.ndarray, n: int, seed: int, epoch: int = 0
) -> None:
    reference = Reference(n, seed=seed, epoch=epoch)
    assert items.tolist() == [reference.item(place) for place in places.tolist()]
    assert places.tolist() == [reference.position(item) for item in items.tolist()]


def _check_bijection(n: int, seed: int) -> None:
    order = Permutation(n, seed=seed)
    places = np.arange(n, dtype=np.int64)
    items = order(places)
    assert items.dtype == np.int64
    assert np.array_equal(np.bincount(items, minlength=n), np.ones(n, dtype=np.int64))
    _check_against_reference(places[-5:], items[-5:], n, seed)


def test_every_small_n_is_a_bijection() -> None:
    for n in range(1, 2001):
        _check_bijection(n, seed=n % 5)


@pytest.mark.parametrize("n", [n for n in EDGES if n > 2000])
def test_round_the_powers_of_two_too(n: int) -> None:
    _check_bijection(n, seed=1)


@given(n=st.integers(1, 2**62), seed=st.integers(0, 2**63), data=st.data())
def test_huge_n_goes_there_and_back(n: int, seed: int, data: st.DataObject) -> None:
    places = np.array(
        data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=9)), dtype=np.int64
    )
    order = Permutation(n, seed=seed, epoch=3)
    items = order(places)
    assert ((items >= 0) & (items < n)).all()
    _check_against_reference(places, items, n, seed, epoch=3)


@pytest.mark.parametrize("n", [300_000_007, 2**53 + 5, 2**61 - 1, 2**62 - 57])
def test_large_n_is_exact_to_the_last_bit(n: int) -> None:
    """A float64 on the way would lose the last bits of most places beyond 2**53."""
    places = np.random.default_rng(0).integers(0, n, 2000)
    order = Permutation(n, seed=1)
    items = order(places)
    assert len(set(items.tolist())) == len(set(places.tolist()))
    _check_against_reference(places, items, n, seed=1)


def test_asking_one_by_one_or_in_any_order_is_the_same() -> None:
    order = Permutation(1000, seed=4)
    whole = order(np.arange(1000))
    shuffled = np.random.default_rng(0).permutation(1000)
    assert np.array_equal(order(shuffled), whole[shuffled])
    assert [int(order(np.array([i]))[0]) for i in range(50)] == whole[:50].tolist()


def test_epochs_and_seeds_differ_and_do_not_meet() -> None:
    """Seed s at epoch e+1 is not seed s+1 at epoch e, as with keys made by adding."""
    orders = {
        (seed, epoch): tuple(Permutation(50, seed=seed, epoch=epoch)(np.arange(50)).tolist())
        for seed in range(6)
        for epoch in range(6)
    }
    assert len(set(orders.values())) == 36


def test_the_order_stays_what_it_is() -> None:
    """Frozen values: a changed order would resume old runs on other batches."""
    assert Permutation(10, seed=0)(np.arange(10)).tolist() == [5, 8, 0, 9, 1, 2, 7, 6, 3, 4]
    assert Permutation(10**12, seed=7, epoch=2)(np.arange(3)).tolist() == [
        668471651817,
        401755605394,
        245057913292,
    ]


def test_no_array_of_the_epoch_is_kept() -> None:
    tracemalloc.start()
    Permutation(10**12, seed=0)(np.arange(64))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_positions_and_neighbours_look_random() -> None:
    """Chi-square of item against place, and the correlation of neighbours, over 200 keys.

    A linear round function, or too few rounds, fails both by far.
    """
    n, cells, keys = 4096, 16, 200
    counts = np.zeros((cells, cells))
    neighbours, parity = [], []
    for seed in range(keys):
        items = Permutation(n, seed=seed)(np.arange(n))
        np.add.at(counts, (np.arange(n) * cells // n, items * cells // n), 1)
        neighbours.append(np.corrcoef(items[:-1], items[1:])[0, 1])
        parity.append(np.mean(items[:-1] % 2 != items[1:] % 2))
    expected = keys * n / cells**2
    chi_square = ((counts - expected) ** 2 / expected).sum()
    # (cells - 1)^2 = 225 degrees of freedom (rows and columns are full); 5 deviations of sqrt(450)
    assert abs(chi_square - 225) < 5 * 450**0.5
    # each has a deviation of 1/sqrt(n), their mean one of 1/sqrt(n * keys)
    assert abs(np.mean(neighbours)) < 5 / (n * keys) ** 0.5 + 1 / n
    assert abs(np.mean(parity) - 0.5) < 5 * 0.5 / (n * keys) ** 0.5 + 1 / n


def test_one_flipped_bit_of_the_place_flips_half_of_the_item() -> None:
    n = 2**16
    order = Permutation(n, seed=11)
    places = np.random.default_rng(1).integers(0, n, 20_000)
    items = order(places)
    for bit in range(16):
        changed = items ^ order(places ^ (1 << bit))
        shares = [np.mean(changed >> out & 1) for out in range(16)]
        # a fair coin thrown 20,000 times has a deviation of 0.0035
        assert max(abs(share - 0.5) for share in shares) < 0.02
