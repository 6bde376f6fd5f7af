import lzma
import math
import random
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.base import copies
from groundup.base.copies import equal_runs
from groundup.base.errors import UserError
from groundup.evaluation.intervals import wilson
from groundup.evaluation.ngram_baseline import ByteNgrams
from groundup.evaluation.recitation import match_lengths, recitation
from groundup.evaluation.xz_baseline import xz_bits_per_byte


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=300), st.binary(max_size=6), st.integers(0, 5))
def test_ngram_chances_sum_to_one(text, context, n_context):
    chances = ByteNgrams(text, n_context).probabilities(context)
    assert chances.shape == (256,)
    assert (chances > 0).all()
    assert chances.sum() == pytest.approx(1.0, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=1, max_size=200), st.binary(min_size=1, max_size=50))
def test_bits_per_byte_is_the_mean_of_the_single_chances(train, held_out):
    model = ByteNgrams(train)
    bits = [
        -math.log2(model.probabilities(held_out[:position])[byte])
        for position, byte in enumerate(held_out)
    ]
    assert model.bits_per_byte(held_out) == pytest.approx(sum(bits) / len(bits), rel=1e-12)


def test_counts_in_pieces_are_the_same(monkeypatch):
    text = random.Random(0).randbytes(5000)
    whole = ByteNgrams(text)
    monkeypatch.setattr(sys.modules[ByteNgrams.__module__], "_CHUNK_BYTES", 100)
    pieces, blocks = ByteNgrams(text), ByteNgrams(text[i : i + 37] for i in range(0, 5000, 37))
    for found in (pieces, blocks):
        assert whole.bits_per_byte(text[:999]) == pytest.approx(found.bits_per_byte(text[:999]))


def test_a_longer_context_predicts_a_repeating_text_better():
    text = b"the cat sat on the mat. the dog sat on the cat. " * 20
    bits = [ByteNgrams(text, n).bits_per_byte(text) for n in range(5)]
    assert bits == sorted(bits, reverse=True)
    assert bits[3] < 1 < bits[0]


def test_random_bytes_cost_about_eight_bits():
    numbers = random.Random(1)
    assert 7.9 < ByteNgrams(numbers.randbytes(40_000)).bits_per_byte(numbers.randbytes(9000)) < 8.6


def test_xz_sees_the_training_text():
    numbers = random.Random(2)
    train = numbers.randbytes(20_000)
    result = xz_bits_per_byte(train, train[5000:15_000])
    assert result.alone > 8
    assert result.best == result.after_training_text < 0.3
    whole = len(lzma.compress(train[5000:15_000], check=lzma.CHECK_NONE, preset=9))
    assert result.alone == pytest.approx(whole * 8 / 10_000, rel=0.01)


def test_yardsticks_refuse_nothing():
    with pytest.raises(UserError, match="training bytes"):
        ByteNgrams(b"")
    with pytest.raises(UserError, match="validation bytes"):
        ByteNgrams(b"a").bits_per_byte(b"")
    with pytest.raises(UserError, match="validation bytes"):
        xz_bits_per_byte(b"a", b"")


def test_wilson_against_its_formula():
    n_right, n, z = 37, 50, 1.959963984540054
    p = n_right / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    share = wilson(n_right, n)
    assert share.low == pytest.approx(middle - half)
    assert share.high == pytest.approx(middle + half)
    with pytest.raises(UserError):
        wilson(0, 0)
    with pytest.raises(UserError):
        wilson(3, 2)


def slow_match_lengths(sample: str, text: str) -> list[int]:
    lengths = []
    for start in range(len(sample)):
        length = 0
        while start + length < len(sample) and sample[start : start + length + 1] in text:
            length += 1
        lengths.append(length if length >= 8 else 0)
    return lengths


@settings(max_examples=80, deadline=None)
@given(st.text("ab ", max_size=60), st.text("ab ", max_size=200))
def test_match_lengths_as_by_hand(sample, text):
    assert match_lengths(sample, text).tolist() == slow_match_lengths(sample, text)


def test_repeated_characters_take_little_memory(monkeypatch):
    monkeypatch.setattr(copies, "_PAIRS", 1000)
    sample, text = " " * 300 + "x = 1", ("y" + " " * 40) * 50 + " " * 120
    assert match_lengths(sample, text).tolist() == slow_match_lengths(sample, text)
    ours, theirs = (np.frombuffer(each.encode(), dtype=np.uint8) for each in (sample, text))
    sizes = [len(here) for here, _ in equal_runs(ours, theirs, 8)]
    assert sum(sizes) > 100_000
    assert max(sizes) <= 1000 + len(sample)


def test_recitation_of_a_quotation():
    text = "Das schönste Glück des denkenden Menschen ist, das Erforschliche erforscht zu haben."
    found = recitation("Er sagte: das Erforschliche erforscht! Ja.", text, n_characters=16)
    assert found.longest == " das Erforschliche erforscht"
    assert found.copied_frac == pytest.approx(len(found.longest) / 42)


@pytest.mark.parametrize(
    ("sample", "longest"), [("xyz", ""), ("", ""), ("a cap", "a ca"), ("qqhatqq", "hat")]
)
def test_short_matches(sample, longest):
    for text in ("a cat in a hat", lambda: ["a c", "at in a h", "at"]):
        found = recitation(sample, text)
        assert (found.longest, found.copied_frac) == (longest, 0.0)


def test_recitation_in_a_long_text(monkeypatch):
    text = "".join(np.random.default_rng(0).choice(list("abcdef "), size=200_000))
    sample = text[500:900] + "?" + text[100_000:100_050]
    found = recitation(sample, text)
    assert found.longest == text[500:900]
    assert found.copied_frac == pytest.approx(450 / 451)
    read: list[int] = []

    def chunks():
        for start in range(0, len(text), 777):
            read.append(start)
            yield text[start : start + 777]

    monkeypatch.setattr("groundup.evaluation.recitation._AT_ONCE", 2000)
    assert recitation(sample, chunks) == found
    assert len(read) == 258
