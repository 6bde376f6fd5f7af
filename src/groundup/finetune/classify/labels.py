r"""Labeled texts: read them from a file, check them, and split them into training and test set.

Three formats are read. A `.jsonl` file has one object per line. A `.csv` file has a header. A
`.tsv` file has a header or the two columns `label<TAB>text` of the SMS Spam Collection. Every error
names its line, because a classifier trained on shifted columns still reports an accuracy.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from groundup.base.errors import UserError
from groundup.finetune.example_file import check_suffix, read_utf8
from groundup.text.jsonl import read_json_lines

SUFFIXES = (".tsv", ".csv", ".jsonl")


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
    path: Path, *, text_column: str = "text", label_column: str = "label"
) -> list[LabeledText]:
    """Read all labeled texts of a `.tsv`, `.csv` or `.jsonl` file.

    Raises:
        UserError: The file is missing, empty or in another format, lacks a column, has a malformed
            line, or has fewer than two classes.
    """
    suffix = check_suffix(path, SUFFIXES)
    if suffix == ".jsonl":
        examples = list(_from_json_lines(path, text_column, label_column))
    else:
        examples = list(_from_columns(path, suffix, text_column, label_column))
    check_classes(examples, where=path)
    return examples


def _from_json_lines(path: Path, text: str, label: str) -> Iterator[LabeledText]:
    for number, row in read_json_lines(path):
        where = f"{path}:{number}"
        if not isinstance(row, dict):
            raise UserError(
                "This line is not a JSON object. One object per line is expected.", where=where
            )
        _check_columns(row, where, text, label)
        yield _checked(row[text], row[label], where)


def _from_columns(path: Path, suffix: str, text: str, label: str) -> Iterator[LabeledText]:
    rows = _rows(read_utf8(path), suffix)
    header = [name.strip() for name in rows[0][1]]
    two_columns = suffix == ".tsv" and len(header) == 2 and (text, label) == ("text", "label")
    has_header = not two_columns or set(header) == {text, label}
    if has_header:
        first = rows[1][1] if len(rows) > 1 else []
        values = dict(zip(header, [*first, *header], strict=False))
        _check_columns(values, path, text, label)
        rows = rows[1:]
    else:
        header = [label, text]
    for number, row in rows:
        where = f"{path}:{number}"
        if len(row) != len(header):
            raise UserError(
                f"This line has {len(row)} columns. {len(header)} are expected.", where=where
            )
        yield _checked(row[header.index(text)], row[header.index(label)], where)
    if not has_header:
        _check_first_line(rows, path)


def _rows(content: str, suffix: str) -> list[tuple[int, list[str]]]:
    """Split a table into (line number, fields), without blank lines."""
    if suffix == ".tsv":
        # No quoting in .tsv: a text with one quotation mark would swallow the lines after it.
        rows = [(n, line.rstrip("\r").split("\t")) for n, line in enumerate(content.split("\n"), 1)]
    else:
        reader = csv.reader(io.StringIO(content, newline=""))
        rows = [(reader.line_num, row) for row in reader]
    return [(number, row) for number, row in rows if any(field.strip() for field in row)]


def _check_columns(row: Mapping[str, Any], where: str | Path, text: str, label: str) -> None:
    """Refuse a table without the two columns; suggest others where only one choice is left."""
    missing = [name for name in (text, label) if name not in row]
    if not missing:
        return
    others = [name for name in row if name not in (text, label)]
    settings: dict[str, object] = {}
    if len(others) == len(missing):
        others.sort(key=lambda name: -len(str(row[name])))  # the text is the longer one
        fields = {text: "text_column", label: "label_column"}
        settings = {fields[name]: other for name, other in zip(missing, others, strict=True)}
    raise UserError(
        f"There is no column {' and no column '.join(missing)}. The columns are: "
        f"{', '.join(row)}. A column of texts and a column of labels are expected.",
        where=where,
        settings=settings,
    )


def _check_first_line(rows: Sequence[tuple[int, list[str]]], path: Path) -> None:
    """Refuse a first line that looks like a header with other column names."""
    label, text = rows[0][1]
    if sum(row[0] == label for _, row in rows) == 1:
        raise UserError(
            f"Class {label!r} occurs in the first line only. If this line is a header, name its "
            "columns. Otherwise, at least two texts per class are expected.",
            where=path,
            settings={"text_column": text, "label_column": label},
        )


def _checked(text: object, label: object, where: str) -> LabeledText:
    if not isinstance(text, str) or not text.strip():
        raise UserError("The text is empty or not a string.", where=where)
    if not isinstance(label, str | int) or not str(label).strip():
        raise UserError(
            "The label is empty or invalid. A class name or a number is expected.", where=where
        )
    return LabeledText(text.strip(), str(label).strip())


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
