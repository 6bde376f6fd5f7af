"""Read labeled texts, and check that a classifier can be trained and tested on them.

Every error names its line, because a classifier trained on shifted columns still reports an
accuracy.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.base.errors import UsageError
from groundup.records.columns import choose_columns
from groundup.records.reading import part_of
from groundup.records.rows import LabeledText
from groundup.text.config import FileConfig
from groundup.text.left_out import LeftOut
from groundup.text.records import Record, described, read_records

_NO_LABEL = ("", "nan", "NaN", "<NA>")
"""How pandas writes a label that is missing."""
_SHOWN = 5


@dataclass(frozen=True)
class LabeledTexts:
    """The rows of a file, and the columns that they were read from."""

    rows: list[LabeledText]
    text_column: str
    label_column: str
    notes: tuple[str, ...] = ()
    """What was guessed about the columns, in sentences."""

    @property
    def texts(self) -> list[str]:
        """The texts."""
        return [row.text for row in self.rows]

    @property
    def labels(self) -> list[str]:
        """The labels."""
        return [row.label for row in self.rows]


def read_labels(
    word: str | Path,
    config: FileConfig | None = None,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    left_out: LeftOut | None = None,
) -> LabeledTexts:
    """Read all labeled texts of a file, or of the files of a folder.

    Rows without text are left out. A file of two columns with other names than text and label, or
    without a header, is read by what its columns contain.

    Args:
        word: A file of records, or any other source (see `text/sources.py`).
        config: The format and encoding of the file. None: the defaults.
        text_column: The column or field of the texts. None: text, or one that looks like it.
        label_column: The column or field of the labels. None: label, or one that looks like it.
        split_column: The column that names the set of each row. None: there is none.
        left_out: Counts rows that are left out.

    Raises:
        UserError: The file is missing, empty or malformed.
        UsageError: It lacks a column, or has rows without a label.
    """
    config = FileConfig() if config is None else config
    left_out = LeftOut() if left_out is None else left_out
    fields = [text_column or "text", label_column or "label", *filter(None, [split_column])]
    records = list(read_records(str(word), config, fields=fields, left_out=left_out))
    if not records:
        raise UsageError("There are no rows. Texts with labels are expected.", where=word)
    columns = choose_columns(records, text_column=text_column, label_column=label_column)
    if not columns.has_header:
        first = records[0]
        name, where = (place.rpartition(":")[0] + ":1" for place in (first.name, first.where))
        records.insert(0, Record(name, where, {key: key for key in first.values}))
    rows: list[LabeledText] = []
    unlabeled: list[Record] = []
    for record in records:
        value = record.get(columns.text)
        text = "" if value is None or _is_nan(value) else record.text(columns.text)
        if not text.strip():
            left_out.add("rows without text", record.name)
            continue
        label = _class_name(record.get(columns.label), record.where)
        if label is None:
            unlabeled.append(record)
            continue
        rows.append(LabeledText(text, label, record.name, part_of(record, split_column)))
    if unlabeled and not config.skip_empty:
        raise _without_label(unlabeled, columns.label)
    for record in unlabeled:
        left_out.add("rows without label", record.name)
    if not rows:
        raise UsageError(
            "No row has both text and label. Texts with labels are expected.", where=word
        )
    return LabeledTexts(rows, columns.text, columns.label, columns.notes)


def check_classes(labels: Sequence[str], *, where: str | Path, min_texts: int = 2) -> None:
    """Refuse labels that no classifier can be trained and tested on.

    Args:
        labels: The label of each text.
        where: The file, for messages.
        min_texts: How many texts a class needs, such as one per set.

    Raises:
        UsageError: There are fewer than two classes, or a class has too few texts.
    """
    counts = Counter(labels)
    if len(counts) < 2:
        found = f"All labels are {next(iter(counts))!r}." if counts else "There are no texts."
        raise UsageError(f"{found} At least two classes are expected.", where=where)
    few = [f"{label!r} ({n})" for label, n in counts.items() if n < min_texts]
    if few:
        more = f" and {len(few) - _SHOWN} more" if len(few) > _SHOWN else ""
        raise UsageError(
            f"Classes with fewer than {min_texts} texts: {', '.join(few[:_SHOWN])}{more}. Each "
            f"class needs at least {min_texts}, so that it can be split into training and test "
            "set.",
            where=where,
        )


def check_seen(train: Sequence[LabeledText], others: Sequence[LabeledText], *, name: str) -> None:
    """Refuse rows whose label does not occur in the training set.

    Args:
        train: The rows of the training set.
        others: Those of another set.
        name: The name of the other set.

    Raises:
        UsageError: There are such rows.
    """
    known = {row.label for row in train}
    unseen = [row for row in others if row.label not in known]
    if unseen:
        first = {row.label: row for row in reversed(unseen)}
        names = ", ".join(f"{label!r} ({row.where})" for label, row in list(first.items())[:_SHOWN])
        raise UsageError(
            f"The {name} set has {len(unseen)} texts with a label that the training set does not "
            f"have: {names}. The labels of the training set are: "
            f"{', '.join(map(repr, sorted(known)[:20]))}.",
        )


def _class_name(label: Any, where: str) -> str | None:
    """Write a label as a class name; 1.0, as pandas writes a column with gaps, is class 1.

    Returns:
        The name, or None where the label is missing.

    Raises:
        UsageError: The label is a fraction, or no name.
    """
    if label is None or _is_nan(label):
        return None
    is_whole = isinstance(label, float) and label.is_integer() and abs(label) < 2**53
    if is_whole:
        label = int(label)
    if isinstance(label, str | bool | int):
        name = str(label).strip()
        return None if name in _NO_LABEL else name
    raise UsageError(
        f"The label is {described(label)}. A class name or a whole number is expected.", where=where
    )


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _without_label(records: Sequence[Record], column: str) -> UsageError:
    names = ", ".join(record.name for record in records[:_SHOWN])
    more = ", ..." if len(records) > _SHOWN else ""
    return UsageError(
        f"The label of {len(records)} rows is missing (null, NaN or empty) in the column "
        f"{column!r}: {names}{more}. A class name is expected; the setting skip_empty leaves out "
        "such rows.",
        where=records[0].where,
        settings={"skip_empty": True},
    )
