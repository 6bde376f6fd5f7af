"""The baselines: strong ones, on the book's split of SMS spam with the published accuracy."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from groundup.finetune.classify.baselines import (
    CHARACTERS,
    WORDS,
    TfidfClassifier,
    class_frequencies,
)
from groundup.records.labels import read_labels
from groundup.records.splits import book_split
from groundup.text.config import FileConfig


def accuracy(kind: str, texts: Sequence[str], labels: Sequence[str]) -> float:
    split = book_split(labels)
    targets = [int(labels[row] == "spam") for row in split.train]
    model = TfidfClassifier(kind).fit([texts[row] for row in split.train], targets)
    found = model.probabilities([texts[row] for row in split.test]).argmax(axis=1)
    return float((found == [labels[row] == "spam" for row in split.test]).mean())


def test_character_n_grams_on_the_split_of_the_book(shared_data: Path) -> None:
    read = read_labels(shared_data / "sms-spam.tsv", FileConfig(format="tsv-pandas"))
    assert len(read.rows) == 5572
    assert accuracy(CHARACTERS, read.texts, read.labels) == pytest.approx(0.9733, abs=5e-5)
    assert accuracy(WORDS, read.texts, read.labels) > 0.95


@pytest.mark.parametrize("kind", [WORDS, CHARACTERS])
def test_texts_that_share_nothing_can_be_fit(kind: str) -> None:
    model = TfidfClassifier(kind).fit(["ab", "cd"], [0, 1])
    assert model.probabilities(["ab", "zz"]).argmax(axis=1)[0] == 0


def test_class_frequencies() -> None:
    np.testing.assert_allclose(class_frequencies([0, 2, 2, 2], 3, 2), [[0.25, 0, 0.75]] * 2)
