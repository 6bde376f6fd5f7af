"""Labelled texts: read them from a file, check them, and split them into training and test.

Three kinds of file are read. `.jsonl` has one object per line, `.csv` has a header, and `.tsv`
may have a header or be the bare `label<TAB>text` of the SMS spam collection. Whatever is wrong is
named with its line, because a classifier trained on shifted columns still reports an accuracy.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from groundup.base.errors import UserError

SUFFIXES = (".tsv", ".csv", ".jsonl")


@dataclass(frozen=True)
class Labelled:
    """One text and the name of the class it belongs to."""

    text: str
    label: str


@dataclass(frozen=True)
class LabelSplit:
    """Training and test examples that share no text, and the class names in a fixed order."""

    train: list[Labelled]
    test: list[Labelled]
    names: tuple[str, ...]
    source: str
    n_duplicates: int = 0

    def index(self, label: str) -> int:
        """Position of a class name, which is the integer the classifier learns."""
        return self.names.index(label)


def read_labels(
    path: Path, *, text_column: str = "text", label_column: str = "label", encoding: str = "utf-8"
) -> list[Labelled]:
    """Read every labelled text of a `.tsv`, `.csv` or `.jsonl` file.

    Raises:
        UserError: the file is missing, empty, of another kind, has other columns, has a malformed
        line
            (its number is named), or holds fewer than two classes.
    """
    if not path.is_file():
        raise UserError(
            "there is no such file",
            where=path,
            need="a .tsv, .csv or .jsonl file of labelled texts",
        )
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(
            f"the file ends in {suffix!r}" if suffix else "the file has no ending",
            where=path,
            need="a name ending in .tsv, .csv or .jsonl",
        )
    try:
        content = path.read_text(encoding=encoding)
    except UnicodeDecodeError as error:
        raise UserError(
            f"byte {error.start} is not {encoding}", where=path, need=f"text in {encoding}"
        ) from error
    if not content.strip():
        raise UserError("the file is empty", where=path, need="labelled texts, one per line")
    if suffix == ".jsonl":
        examples = list(_from_jsonl(content, path, text_column, label_column))
    else:
        examples = list(_from_columns(content, path, text_column, label_column))
    check_classes(examples, where=path)
    return examples


def _from_jsonl(content: str, path: Path, text: str, label: str) -> Iterator[Labelled]:
    # Not splitlines(): a JSON string may hold U+2028, which splitlines would cut at.
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(
                f"the line is not JSON ({error.msg})", where=where, need="one object per line"
            ) from error
        if not isinstance(row, dict):
            raise UserError("the line is no JSON object", where=where, need="one object per line")
        _need_columns(list(row), where, text, label)
        yield _checked(row[text], row[label], where)


def _from_columns(content: str, path: Path, text: str, label: str) -> Iterator[Labelled]:
    if path.suffix.lower() == ".tsv":
        # No quoting in .tsv: a text with one quotation mark would swallow the lines after it.
        rows = [(n, line.rstrip("\r").split("\t")) for n, line in enumerate(content.split("\n"), 1)]
    else:
        reader = csv.reader(content.splitlines(keepends=True))
        rows = [(reader.line_num, row) for row in reader]
    rows = [(number, row) for number, row in rows if any(field.strip() for field in row)]
    header = [name.strip().removeprefix("\ufeff") for name in rows[0][1]]
    bare = path.suffix.lower() == ".tsv" and len(header) == 2 and (text, label) == ("text", "label")
    if text in header and label in header:
        rows = rows[1:]
        at_text, at_label, n_columns = header.index(text), header.index(label), len(header)
    elif bare:
        at_text, at_label, n_columns = 1, 0, 2
    else:
        _need_columns(header, path, text, label)
    for number, row in rows:
        where = f"{path}, line {number}"
        if len(row) != n_columns:
            raise UserError(
                f"the line has {len(row)} columns", where=where, need=f"{n_columns} columns"
            )
        yield _checked(row[at_text], row[at_label], where)


def _need_columns(found: Sequence[str], where: str | Path, text: str, label: str) -> None:
    missing = [name for name in (text, label) if name not in found]
    if missing:
        raise UserError(
            f"{' and '.join(missing)} not found in the columns {', '.join(found) or '(none)'}",
            where=where,
            need="one column of texts and one of labels",
            type_this="--text-column NAME --label-column NAME",
        )


def _checked(text: object, label: object, where: str) -> Labelled:
    if not isinstance(text, str) or not text.strip():
        raise UserError("the text is empty or no string", where=where, need="a text to classify")
    if not isinstance(label, str | int) or not str(label).strip():
        raise UserError("the label is empty or no name", where=where, need="a class name or number")
    return Labelled(text.strip(), str(label).strip())


def check_classes(examples: Sequence[Labelled], *, where: str | Path) -> None:
    """Refuse examples from which nothing can be learnt or measured.

    Raises:
        UserError: only one class, or a class with a single example (often a header taken for a
        line).
    """
    counts = Counter(example.label for example in examples)
    if len(counts) < 2:
        only = next(iter(counts), "none")
        raise UserError(
            f"there is one class only ({only!r}, {len(examples)} texts)" if counts else "no texts",
            where=where,
            need="a second class to tell it apart from",
        )
    alone = [label for label, count in counts.items() if count < 2]
    if alone:
        raise UserError(
            f"class {alone[0]!r} has a single text ({len(alone)} such classes)",
            where=where,
            need="a second one (or, if that is the name of a column, the names of both)",
            type_this="--text-column NAME --label-column NAME",
        )


def split_labels(
    examples: Sequence[Labelled], *, test_frac: float, seed: int, source: str
) -> LabelSplit:
    """Split into training and test with the same share of every class on both sides.

    A text that occurs twice (case and spaces aside) is kept once, else it could be learnt on one
    side and be tested on the other.

    >>> rows = [Labelled(f"text {i}", "ab"[i % 2]) for i in range(20)]
    >>> split = split_labels(rows, test_frac=0.2, seed=0, source="doctest")
    >>> len(split.train), len(split.test), split.names
    (16, 4, ('a', 'b'))
    """
    unique: dict[str, Labelled] = {}
    for example in examples:
        unique.setdefault(" ".join(example.text.casefold().split()), example)
    kept = list(unique.values())
    check_classes(kept, where=source)
    names = tuple(sorted({example.label for example in kept}))
    rng = np.random.default_rng(seed)
    train: list[Labelled] = []
    test: list[Labelled] = []
    for name in names:
        members = [example for example in kept if example.label == name]
        order = rng.permutation(len(members))
        n_test = min(len(members) - 1, max(1, round(test_frac * len(members))))
        test += [members[i] for i in order[:n_test]]
        train += [members[i] for i in order[n_test:]]
    return LabelSplit(train, test, names, source, n_duplicates=len(examples) - len(kept))
