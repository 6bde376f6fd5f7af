"""Choose the columns of texts and labels of a table, and find out whether it has a header."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from groundup.base.errors import UsageError
from groundup.text.records import Record

_LONGEST_NAME = 3
"""Words; a first line with a longer text is no header."""


@dataclass(frozen=True)
class Columns:
    """The chosen columns."""

    text: str
    label: str
    notes: tuple[str, ...] = ()
    """What was guessed, in sentences."""
    has_header: bool = True


def choose_columns(
    records: Sequence[Record], *, text_column: str | None, label_column: str | None
) -> Columns:
    """Choose the columns: those that were asked for, text and label, or the two that there are.

    Args:
        records: The records of a file.
        text_column: The column of the texts. None: it is to be found.
        label_column: The column of the labels. None: it is to be found.

    Raises:
        UsageError: A column is missing, or the choice is not clear.
    """
    row = records[0].values
    if not isinstance(row, dict):
        records[0].get("text")  # says what was found instead
    wanted = {"text": text_column or "text", "label": label_column or "label"}
    given = {"text": text_column, "label": label_column}
    missing = [kind for kind, name in wanted.items() if not _has(records[0], name)]
    if not missing:
        return Columns(wanted["text"], wanted["label"])
    others = [name for name in row if name not in wanted.values()]
    if any(given[kind] for kind in missing) or len(row) != 2:
        raise _no_columns(records, wanted, missing)
    if len(missing) == 1:
        chosen = Columns(**{**wanted, missing[0]: others[0]})
        return replace(chosen, notes=(_said(chosen),))
    label = _label_column(records, others)
    if label is None:
        raise _no_columns(records, wanted, missing)
    text = next(name for name in others if name != label)
    is_data = len(text.split()) > _LONGEST_NAME or any(_written(r, label) == label for r in records)
    if records[0].is_table and is_data:
        places = {name: f"column {n}" for n, name in enumerate(row, 1)}
        note = (
            "The file has no header: its first line looks like the others. "
            f"Labels are read from {places[label]}, texts from {places[text]}."
        )
        return Columns(text, label, (note,), has_header=False)
    chosen = Columns(text, label)
    return replace(chosen, notes=(_said(chosen),))


def _has(record: Record, name: str) -> bool:
    missing = object()
    return record.get(name, missing) is not missing


def _said(columns: Columns) -> str:
    return (
        f"Texts are read from the column {columns.text!r} and labels from the column "
        f"{columns.label!r}, the only ones there are."
    )


def _label_column(records: Sequence[Record], names: Sequence[str]) -> str | None:
    """Find the column of labels: that with fewer different values. None: they are alike."""
    n_values = {name: len({_written(record, name) for record in records}) for name in names}
    label, text = sorted(names, key=n_values.__getitem__)
    return label if n_values[label] < n_values[text] else None


def _written(record: Record, name: str) -> str:
    values: Any = record.values
    return str(values.get(name)).strip() if isinstance(values, dict) else ""


def _no_columns(
    records: Sequence[Record], wanted: dict[str, str], missing: Sequence[str]
) -> UsageError:
    """List the columns, and suggest those that look like texts and labels."""
    row = records[0].values
    others = [name for name in row if name not in wanted.values()]
    lengths = {name: sum(len(_written(record, name)) for record in records) for name in others}
    n_values = {name: len({_written(record, name) for record in records}) for name in others}
    found: dict[str, str] = {}
    if "text" in missing and others:
        found["text"] = max(others, key=lengths.__getitem__)
    labels = [name for name in others if name not in found.values() and n_values[name] > 1]
    if "label" in missing and labels:
        found["label"] = min(labels, key=n_values.__getitem__)
    is_complete = found.keys() == set(missing)
    names = " and no column ".join(repr(wanted[kind]) for kind in missing)
    return UsageError(
        f"There is no column {names}. The columns are: {', '.join(map(str, row)) or 'none'}. A "
        "column of texts and a column of labels are expected.",
        where=records[0].where,
        settings={f"{kind}_column": found[kind] for kind in missing} if is_complete else None,
    )
