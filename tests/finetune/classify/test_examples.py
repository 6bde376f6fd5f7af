"""Labeled texts in three sets: drawn, given, audited; what cannot be divided is named."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from groundup.base.errors import UsageError, UserError
from groundup.finetune.classify.config import ClassifyConfig
from groundup.finetune.classify.examples import Examples, passage_examples, read_examples
from groundup.finetune.classify.passages import passages_by_source
from groundup.text.documents import Document

WORDS = "fox dog hill road moon well oak bird stone river night lamp king song fire".split()  # noqa: SIM905


def write(path: Path, rows: Sequence[tuple[str, ...]], header: str = "text,label") -> Path:
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return path


def animals(n: int, start: int = 0) -> list[tuple[str, ...]]:
    def text(i: int) -> str:
        return " ".join(random.Random(i).choices(WORDS, k=9))

    return [(text(i), "ab"[i % 2]) for i in range(start, start + n)]


def read(labels: Path, **changes: Any) -> Examples:
    return read_examples(ClassifyConfig(labels=labels, **changes))


def sets(examples: Examples) -> list[set[str]]:
    split = examples.split
    return [set(examples.texts_of(rows)) for rows in (split.train, split.validation, split.test)]


def test_near_duplicates_stay_together_unless_rows_are_drawn_at_random(tmp_path: Path) -> None:
    rows = [row for i in range(40) for row in animals(1, i) * 3]
    file = write(tmp_path / "a.csv", rows)
    grouped = read(file)
    assert not any(grouped.has_near)
    assert "80 of 120 texts repeat an earlier one" in grouped.audit
    train, validation, test = sets(grouped)
    assert not train & test
    assert not validation & (train | test)
    assert sum(read(file, split="random").has_near) > 10


def test_given_sets_are_used_as_they_are(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", animals(40))
    test = write(tmp_path / "test.csv", [*animals(10, 50), animals(1)[0]])
    examples = read(file, test=test)
    assert [examples.texts[row] for row in examples.split.test] == [
        text for text, _ in [*animals(10, 50), animals(1)[0]]
    ]
    assert sum(examples.has_near) == 1
    assert len(examples.split.validation) > 0
    validation = write(tmp_path / "validation.csv", animals(6, 70))
    examples = read(file, test=test, validation=validation)
    assert len(examples.split.train) == 40
    assert len(examples.split.validation) == 6
    examples = read(file, validation=validation)
    assert len(examples.split.test) == 8


def test_a_column_names_the_sets(tmp_path: Path) -> None:
    parts = ["train"] * 6 + ["dev", "test"]
    rows = [(*row, parts[i % 8]) for i, row in enumerate(animals(80))]
    file = write(tmp_path / "a.csv", rows, "text,label,part")
    examples = read(file, split_column="part")
    split = examples.split
    assert (len(split.train), len(split.validation), len(split.test)) == (60, 10, 10)


def test_undersampling_changes_only_the_training_set(tmp_path: Path) -> None:
    rows = [(text, "b" if i % 4 == 0 else "a") for i, (text, _) in enumerate(animals(100))]
    file = write(tmp_path / "a.csv", rows)
    plain, balanced = read(file), read(file, balance="undersampled")
    assert plain.split.test == balanced.split.test
    counts = Counter(balanced.labels[row] for row in balanced.split.train)
    assert counts["a"] == counts["b"]
    assert plain.names[plain.rarest] == "b"


def test_label_conflicts_among_near_duplicates_are_counted(tmp_path: Path) -> None:
    (text, _), *rest = animals(40)
    file = write(tmp_path / "a.csv", [(text, "a"), (text, "b"), *rest])
    assert read(file).n_conflicts == 2
    assert "2 have a near duplicate with another label" in read(file).audit


def test_passages_become_examples() -> None:
    documents = [
        Document(name, " ".join(f"{name}{i}word{i * 7 % 31}" for i in range(600)))
        for name in ("emma", "anne")
    ]
    passages = passages_by_source(documents, n_classes=2, n_characters=80, test_frac=0.25)
    config = ClassifyConfig()
    examples = passage_examples(config, passages)
    assert set(examples.names) == {"emma", "anne"}
    assert examples.texts_of(examples.split.test) == [row.text for row in passages.test]
    assert set(sets(examples)[0]) | set(sets(examples)[1]) == {row.text for row in passages.train}


def one_class(folder: Path) -> ClassifyConfig:
    return ClassifyConfig(labels=write(folder / "a.csv", [("x", "a"), ("y", "a")]))


def single_label(folder: Path) -> ClassifyConfig:
    rows = [*animals(8), ("rare", "c")]
    return ClassifyConfig(labels=write(folder / "a.csv", rows))


def no_label_column(folder: Path) -> ClassifyConfig:
    file = write(folder / "a.csv", [("x", "a", "1")], "text,kind,other")
    return ClassifyConfig(labels=file)


def nan_labels(folder: Path) -> ClassifyConfig:
    return ClassifyConfig(labels=write(folder / "a.csv", [*animals(8), ("x", "nan")]))


def unseen_label(folder: Path) -> ClassifyConfig:
    labels = write(folder / "a.csv", animals(20))
    return ClassifyConfig(labels=labels, test=write(folder / "b.csv", [("x", "zebra")]))


def no_training_set(folder: Path) -> ClassifyConfig:
    rows = [(*row, "test") for row in animals(8)]
    labels = write(folder / "a.csv", rows, "text,label,part")
    return ClassifyConfig(labels=labels, split_column="part")


def one_group(folder: Path) -> ClassifyConfig:
    rows = [(f"a text with the number {i}", "ab"[i % 2]) for i in range(9)]
    return ClassifyConfig(labels=write(folder / "a.csv", rows))


def two_large_groups(folder: Path) -> ClassifyConfig:
    rows = [(f"{'ab'[i % 2] * 9} text {i}", "ab"[i % 2]) for i in range(20)]
    return ClassifyConfig(labels=write(folder / "a.csv", rows), validation_frac=0.0)


def two_large_groups_beside_a_validation_file(folder: Path) -> ClassifyConfig:
    return replace(two_large_groups(folder), validation=write(folder / "b.csv", [("x", "a")]))


def only_empty_texts(folder: Path) -> ClassifyConfig:
    return ClassifyConfig(labels=write(folder / "a.csv", [(" ", "a"), ("  ", "b")]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (one_class, ["All labels are 'a'", "two classes"]),
        (single_label, ["'c'", "2"]),
        (no_label_column, ["'label'", "text, kind, other"]),
        (nan_labels, ["label", "a.csv:10", "skip_empty"]),
        (unseen_label, ["test set", "'zebra'", "b.csv:2", "'a', 'b'"]),
        (no_training_set, ["training set"]),
        (one_group, ["near duplicates", "split='random'"]),
        (two_large_groups, ["a.csv", "the test set is empty", "split='random'"]),
        (two_large_groups_beside_a_validation_file, ["the test set is empty"]),
        (only_empty_texts, ["text"]),
    ],
)
def test_bad_input_is_one_sentence_that_names_the_place(
    make: object, words: list[str], tmp_path: Path
) -> None:
    assert callable(make)
    with pytest.raises(UserError) as caught:
        read_examples(make(tmp_path))
    assert isinstance(caught.value, UsageError), "exit code 2"
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_empty_texts_are_left_out_and_named(tmp_path: Path) -> None:
    examples = read(write(tmp_path / "a.csv", [*animals(20), ("  ", "a")]))
    assert len(examples.texts) == 20
    assert any("a.csv:22" in sentence for sentence in examples.reading.sentences())


def test_the_book_s_split_has_the_known_leaks(shared_data: Path) -> None:
    examples = read(shared_data / "sms-spam.tsv", format="tsv-pandas", split="book", seed=123)
    split = examples.split
    assert (len(split.train), len(split.validation), len(split.test)) == (1045, 149, 300)
    assert sum(examples.has_near) == 77
    near = [label for label, has in zip(
        (examples.labels[row] for row in split.test), examples.has_near, strict=True
    ) if has]  # fmt: skip
    assert near.count("spam") == 73
    assert "403 of 5,572 texts repeat an earlier one" in examples.audit
