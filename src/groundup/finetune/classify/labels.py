"""Labeled texts: read them, check them, and split them into training and test set.

Rows come from any file of records (`text/records.py`). A `.tsv` file of two columns may have no
header, as the SMS Spam Collection: `label<TAB>text`. Every error names its line, because a
classifier trained on shifted columns still reports an accuracy.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from groundup.base.errors import UserError
from groundup.text.config import FileConfig
from groundup.text.left_out import LeftOut
from groundup.text.records import EmptyError, NullError, Record, described, read_records

_COLUMNS = ("label", "text")
"""Of a .tsv file without a header."""
_MISSING = object()
_FIRST_LINE = re.compile(r"\.tsv(\.\w+)?:1$")
"""The name of the first record of a .tsv file without a header."""


@dataclass(frozen=True)
class LabeledText:
    """A text and the name of its class."""

    text: str
    label: str


@dataclass(frozen=True)
class LabelSplit:
    """Training and test set, which share no text, and the class names in a fixed order."""

    train: list[LabeledText]
    test: list[LabeledText]
    names: tuple[str, ...]
    source: str
    n_duplicates: int = 0

    def index(self, label: str) -> int:
        """Return the index of a class name: the target of the classifier."""
        return self.names.index(label)


def read_labels(
    word: str | Path,
    config: FileConfig | None = None,
    *,
    text_column: str = "text",
    label_column: str = "label",
    left_out: LeftOut | None = None,
) -> list[LabeledText]:
    """Read all labeled texts of a file, or of the files of a folder.

    Args:
        word: A file of records, or any other source (see `text/sources.py`).
        config: The format and encoding of the file. None: the defaults.
        text_column: The column or field of the texts.
        label_column: The column or field of the class names.
        left_out: Counts rows without text or label that are left out.

    Raises:
        UserError: The file is missing, empty or malformed, lacks a column, or has fewer than two
            classes.
    """
    config = FileConfig() if config is None else config
    left_out = LeftOut() if left_out is None else left_out
    is_default = {text_column, label_column} == set(_COLUMNS)
    records = read_records(
        str(word),
        config,
        fields=(text_column, label_column),
        default_columns=_COLUMNS if is_default else (),
        left_out=left_out,
    )
    examples: list[LabeledText] = []
    first: Record | None = None
    for record in records:
        if first is None:
            first = record
            _check_columns(first, text_column, label_column)
        try:
            example = _checked(record, text_column, label_column)
        except (EmptyError, NullError):
            if not config.skip_empty:
                raise
            left_out.add("rows without text or label", record.name)
            continue
        examples.append(example)
    if first is not None and _FIRST_LINE.search(first.name):
        _check_first_line(first, examples, where=word)
    check_classes(examples, where=word)
    return examples


def _check_columns(record: Record, text: str, label: str) -> None:
    """Refuse a table without the two columns; suggest others where only one choice is left."""
    missing = [name for name in (text, label) if record.get(name, _MISSING) is _MISSING]
    if not missing:
        return
    row = record.values
    others = [name for name in row if name not in (text, label)]
    settings: dict[str, object] = {}
    if len(others) == len(missing):
        others.sort(key=lambda name: -len(str(row[name])))  # the text is the longer one
        fields = {text: "text_column", label: "label_column"}
        settings = {fields[name]: other for name, other in zip(missing, others, strict=True)}
    raise UserError(
        f"There is no column {' and no column '.join(missing)}. The columns are: "
        f"{', '.join(row)}. A column of texts and a column of labels are expected.",
        where=record.where,
        settings=settings,
    )


def _check_first_line(first: Record, examples: Sequence[LabeledText], where: str | Path) -> None:
    """Refuse a first line that looks like a header with other column names."""
    text, label = first.values["text"], first.values["label"]
    if sum(example.label == label for example in examples) == 1:
        raise UserError(
            f"Class {label!r} occurs in the first line only. If this line is a header, name its "
            "columns. Otherwise, at least two texts per class are expected.",
            where=where,
            settings={"text_column": text, "label_column": label},
        )


def _checked(record: Record, text_column: str, label_column: str) -> LabeledText:
    text = record.text(text_column).strip()
    label = _class_name(record.get(label_column), label_column, record.where)
    for field, value in ((text_column, text), (label_column, label)):
        if not value:
            raise EmptyError(field, where=record.where)
    return LabeledText(text, label)


def _class_name(label: Any, field: str, where: str) -> str:
    """Write a label as a class name; 1.0, as pandas writes a column with gaps, is class 1.

    Raises:
        UserError: It is null, a fraction, or no name.
    """
    if label is None:
        raise NullError(field, where=where)
    is_whole = isinstance(label, float) and label.is_integer() and abs(label) < 2**53
    if is_whole:
        label = int(label)
    if isinstance(label, str | bool | int):
        return str(label).strip()
    raise UserError(
        f"The label is {described(label)}. A class name or a whole number is expected.", where=where
    )


def check_classes(examples: Sequence[LabeledText], *, where: str | Path) -> None:
    """Refuse examples that no classifier can be trained and tested on.

    Raises:
        UserError: There are fewer than two classes, or a class has a single example.
    """
    counts = Counter(example.label for example in examples)
    if len(counts) < 2:
        found = f"All labels are {next(iter(counts))!r}." if counts else "There are no texts."
        raise UserError(f"{found} At least two classes are expected.", where=where)
    single = [label for label, count in counts.items() if count < 2]
    if single:
        raise UserError(
            f"Classes with a single text: {', '.join(single[:5])}. At least two texts per class "
            "are expected, one for training and one for testing.",
            where=where,
        )


def split_labels(
    examples: Sequence[LabeledText], *, test_frac: float, seed: int, source: str
) -> LabelSplit:
    """Split into training and test set, stratified by class.

    Of texts that differ only in case and white space, the first one is kept; otherwise a text of
    the test set could also be in the training set.

    >>> rows = [LabeledText(f"text {i}", "ab"[i % 2]) for i in range(20)]
    >>> split = split_labels(rows, test_frac=0.2, seed=0, source="doctest")
    >>> len(split.train), len(split.test), split.names
    (16, 4, ('a', 'b'))
    """
    unique: dict[str, LabeledText] = {}
    for example in examples:
        unique.setdefault(" ".join(example.text.casefold().split()), example)
    kept = list(unique.values())
    check_classes(kept, where=source)
    names = tuple(sorted({example.label for example in kept}))
    rng = np.random.default_rng(seed)
    train: list[LabeledText] = []
    test: list[LabeledText] = []
    for name in names:
        members = [example for example in kept if example.label == name]
        order = rng.permutation(len(members))
        n_test = min(len(members) - 1, max(1, round(test_frac * len(members))))
        test += [members[i] for i in order[:n_test]]
        train += [members[i] for i in order[n_test:]]
    return LabelSplit(train, test, names, source, n_duplicates=len(examples) - len(kept))
