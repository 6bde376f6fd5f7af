"""Instruction records: an instruction, an optional input and the expected output.

The format is that of the Alpaca data: a JSON list, or one object per line, with the fields
`instruction`, `input` and `output`. An error names the record and the field.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from groundup.base.errors import UserError
from groundup.finetune.example_file import check_suffix, read_utf8
from groundup.text.jsonl import read_json_lines

SUFFIXES = (".json", ".jsonl")
FIELDS = ("instruction", "input", "output")


@dataclass(frozen=True)
class Record:
    """An instruction with its answer. `kind` names the type of task, "" if it is unknown."""

    instruction: str
    output: str
    input: str = ""
    kind: str = ""

    @property
    def prompt(self) -> str:
        """The user's message: the instruction, followed by the input if there is one.

        >>> Record(instruction="Say it backwards.", input="tar", output="rat").prompt
        'Say it backwards.\\ntar'
        """
        return f"{self.instruction}\n{self.input}" if self.input else self.instruction


def read_records(path: Path) -> list[Record]:
    """Read instruction records from a `.json` list or a `.jsonl` file.

    Raises:
        UserError: The file is missing, empty or not JSON, has fewer than two records, or a record
            is malformed.
    """
    if check_suffix(path, SUFFIXES) == ".jsonl":
        records = [_record(row, f"{path}:{number}") for number, row in read_json_lines(path)]
    else:
        rows = enumerate(_read_list(path), start=1)
        records = [_record(row, f"{path}, record {number}") for number, row in rows]
    if len(records) < 2:
        raise UserError(
            f"The number of records is {len(records)}. At least two records are expected, one "
            "for training and one for testing.",
            where=path,
        )
    return records


def _read_list(path: Path) -> list[object]:
    try:
        rows = json.loads(read_utf8(path))
    except json.JSONDecodeError as error:
        raise UserError(
            f"This file is not JSON ({error.msg}, line {error.lineno}, column {error.colno}). "
            "A list of objects is expected. Name a file with one object per line .jsonl.",
            where=path,
        ) from error
    if not isinstance(rows, list):
        raise UserError(
            f"This file contains a {type(rows).__name__}. A list of objects is expected: "
            '[{"instruction": "...", "input": "...", "output": "..."}, ...]',
            where=path,
        )
    return rows


def _record(row: object, where: str) -> Record:
    if not isinstance(row, dict):
        raise UserError(
            f"The record is a {type(row).__name__}. An object with the fields {', '.join(FIELDS)} "
            "is expected.",
            where=where,
        )
    values: dict[str, str] = {}
    for field in FIELDS:
        value = row.get(field, "" if field == "input" else None)
        if value is None:
            found = ", ".join(map(str, row)) or "none"
            raise UserError(
                f"The record has no field {field!r}. Its fields are: {found}. The fields "
                "instruction and output, and optionally input, are expected.",
                where=where,
            )
        if not isinstance(value, str):
            raise UserError(
                f"The field {field!r} is a {type(value).__name__}. A string is expected.",
                where=where,
            )
        if field != "input" and not value.strip():
            raise UserError(f"The field {field!r} is empty.", where=where)
        values[field] = value.strip()
    return Record(values["instruction"], values["output"], values["input"])


def split_records(
    records: Sequence[Record], *, test_frac: float, max_test: int, seed: int
) -> tuple[list[Record], list[Record]]:
    """Split into training and test records that share no prompt.

    Returns:
        (train, test), with 1 <= len(test) <= max_test.

    Raises:
        UserError: All records have the same prompt.
    """
    prompts = list(dict.fromkeys(record.prompt for record in records))
    if len(prompts) < 2:
        raise UserError(
            f"All {len(records)} records have the same prompt. At least two prompts are expected."
        )
    order = np.random.default_rng(seed).permutation(len(prompts))
    n_test = min(max_test, len(prompts) - 1, max(1, round(test_frac * len(prompts))))
    in_test = {prompts[i] for i in order[:n_test]}
    train = [record for record in records if record.prompt not in in_test]
    first = {record.prompt: record for record in reversed(records) if record.prompt in in_test}
    return train, [first[prompts[i]] for i in order[:n_test]]
