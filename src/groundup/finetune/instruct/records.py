"""Instruction records: what is asked, the material it is asked about, and the answer.

The layout is that of the Alpaca data: a JSON list (or one object per line) with `instruction`,
`input` and `output`. The first record that is wrong is named with its number and the field, since
a file of a thousand records cannot be checked by eye.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from groundup.base.errors import UserError

FIELDS = ("instruction", "input", "output")


@dataclass(frozen=True)
class Record:
    """One instruction with its answer; `kind` names the sort of task ("" when unknown)."""

    instruction: str
    output: str
    input: str = ""
    kind: str = ""

    @property
    def prompt(self) -> str:
        """What the user says: the instruction, and the material under it if there is any.

        >>> Record(instruction="Say it backwards.", input="tar", output="rat").prompt
        'Say it backwards.\\ntar'
        """
        return f"{self.instruction}\n{self.input}" if self.input else self.instruction


def read_records(path: Path, *, encoding: str = "utf-8") -> list[Record]:
    """Read instruction records from a `.json` list or a `.jsonl` file.

    Raises:
        UserError: missing or empty file, no JSON, no list, or a malformed record: which one
        (counted from 1)
            and which field.
    """
    if not path.is_file():
        raise UserError(
            "there is no such file", where=path, need="a .json or .jsonl file of records"
        )
    try:
        content = path.read_text(encoding=encoding)
    except UnicodeDecodeError as error:
        raise UserError(
            f"byte {error.start} is not {encoding}", where=path, need=f"JSON in {encoding}"
        ) from error
    if not content.strip():
        raise UserError("the file is empty", where=path, need="instruction records")
    rows = _lines(content, path) if path.suffix.lower() == ".jsonl" else _list(content, path)
    if len(rows) < 2:
        raise UserError(
            f"there is {len(rows)} record",
            where=path,
            need="a second one to hold out for the test",
        )
    return [_record(row, number, path) for number, row in enumerate(rows, start=1)]


def _list(content: str, path: Path) -> Sequence[object]:
    try:
        rows = json.loads(content)
    except json.JSONDecodeError as error:
        raise UserError(
            f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            where=path,
            need="a list of objects, or one object per line in a .jsonl file",
        ) from error
    if not isinstance(rows, list):
        raise UserError(
            f"the file holds one {type(rows).__name__}, not a list",
            where=path,
            need='a list: [{"instruction": "...", "input": "...", "output": "..."}, ...]',
        )
    return rows


def _lines(content: str, path: Path) -> Sequence[object]:
    rows: list[object] = []
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise UserError(
                f"record {len(rows) + 1} (line {number}) is not JSON: {error.msg}",
                where=path,
                need="one object per line",
            ) from error
    return rows


def _record(row: object, number: int, path: Path) -> Record:
    where = f"{path}, record {number}"
    if not isinstance(row, dict):
        raise UserError(
            f"record {number} is a {type(row).__name__}",
            where=where,
            need=f"an object with {FIELDS}",
        )
    values: dict[str, str] = {}
    for field in FIELDS:
        value = row.get(field, "" if field == "input" else None)
        if value is None:
            found = ", ".join(map(str, row)) or "none"
            raise UserError(
                f"record {number} has no field {field!r} (its fields: {found})",
                where=where,
                need="the fields instruction and output (input may be left out)",
            )
        if not isinstance(value, str):
            raise UserError(
                f"record {number}, field {field!r} is a {type(value).__name__}",
                where=where,
                need="a string",
            )
        if field != "input" and not value.strip():
            raise UserError(
                f"record {number}, field {field!r} is empty", where=where, need="a text"
            )
        values[field] = value.strip()
    return Record(values["instruction"], values["output"], values["input"])


def split_records(
    records: Sequence[Record], *, test_frac: float, max_test: int, seed: int
) -> tuple[list[Record], list[Record]]:
    """Training and held-out records; a prompt that occurs twice stays on one side.

    Returns:
        (train, test), with 1 <= len(test) <= max_test.

    Raises:
        UserError: all records ask the same thing.
    """
    prompts = list(dict.fromkeys(record.prompt for record in records))
    if len(prompts) < 2:
        raise UserError(f"all {len(records)} records ask the same", need="two different prompts")
    order = np.random.default_rng(seed).permutation(len(prompts))
    n_test = min(max_test, len(prompts) - 1, max(1, round(test_frac * len(prompts))))
    held_out = {prompts[i] for i in order[:n_test]}
    train = [record for record in records if record.prompt not in held_out]
    first = {record.prompt: record for record in reversed(records) if record.prompt in held_out}
    return train, [first[prompts[i]] for i in order[:n_test]]
