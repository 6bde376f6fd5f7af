"""Instruction records: an instruction, an optional input and the expected output.

The fields are those of the Alpaca data, `instruction`, `input` and `output`, in any file of records
(`text/records.py`). An error names the record and the field.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from groundup.base.errors import UserError
from groundup.text import records as files
from groundup.text.config import FileConfig
from groundup.text.left_out import LeftOut

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


def read_records(
    word: str | Path, config: FileConfig | None = None, *, left_out: LeftOut | None = None
) -> list[Record]:
    """Read instruction records of a file, or of the files of a folder.

    Args:
        word: A file of records, or any other source (see `text/sources.py`).
        config: The format and encoding of the file. None: the defaults.
        left_out: Counts records without instruction or output that are left out.

    Raises:
        UserError: The file is missing, empty or malformed, or has fewer than two records.
    """
    config = FileConfig() if config is None else config
    left_out = LeftOut() if left_out is None else left_out
    found = []
    for record in files.read_records(str(word), config, fields=FIELDS, left_out=left_out):
        try:
            found.append(_record(record))
        except (files.EmptyError, files.NullError):
            if not config.skip_empty:
                raise
            left_out.add("records without instruction or output", record.name)
    if len(found) < 2:
        raise UserError(
            f"The number of records is {len(found)}. At least two records are expected, one "
            "for training and one for testing.",
            where=word,
        )
    return found


def _record(record: files.Record) -> Record:
    values: dict[str, str] = {}
    for field in FIELDS:
        if field == "input" and record.get(field, None) is None:
            values[field] = ""  # null is as good as left out
            continue
        try:
            values[field] = record.text(field).strip()
        except files.MissingFieldError as error:
            raise UserError(
                f"{error.message} The fields instruction and output, and optionally input, are "
                "expected.",
                where=record.where,
            ) from error
        if field != "input" and not values[field]:
            raise files.EmptyError(field, where=record.where)
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
