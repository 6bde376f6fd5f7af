"""Read a task: a file of items, each a question with choices or with answers.

A value of the field `answer` is the index of a choice where it is a number, and otherwise its text
or its letter. Every mistake in the file is named with the place of the item.
"""

import json
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.base.errors import UsageError, UserError
from groundup.evaluation.task_config import TaskConfig
from groundup.text.config import FileConfig
from groundup.text.records import Record, described, read_records

QUESTION_FIELDS = ("question", "prompt", "instruction", "query", "text")
CHOICES_FIELDS = ("choices", "options", "endings")
ANSWER_FIELDS = ("answer", "answers", "label", "answerKey", "target", "gold", "output")
_LETTERS = tuple(string.ascii_uppercase)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question."""

    name: str
    """The file and the number of the item: "quiz.jsonl:3"."""
    question: str
    choices: tuple[str, ...]
    """Empty: the answer is generated."""
    answer: int
    """The index of the correct choice; -1 without choices."""
    answers: tuple[str, ...]
    """The texts that are correct."""
    fields: dict[str, str]
    """The values of the record that are texts or numbers, for the prompt."""

    @property
    def is_choice(self) -> bool:
        """Whether one of several choices is correct."""
        return bool(self.choices)


def read_items(path: Path, config: TaskConfig) -> list[Item]:
    """Read all items of a file.

    Raises:
        UsageError: The file cannot be read, or an item is not valid.
    """
    try:
        files = FileConfig(format=config.format, encoding=config.encoding)
        wanted = (*QUESTION_FIELDS, *CHOICES_FIELDS, *ANSWER_FIELDS)
        items = [_item(record) for record in read_records(str(path), files, fields=wanted)]
        if not items:
            raise UserError("There are no items in this file. Questions are expected.", where=path)
        kinds = {item.is_choice for item in items}
        if len(kinds) > 1:
            odd = next(item for item in items if item.is_choice != items[0].is_choice)
            has = "choices" if odd.is_choice else "no choices"
            raise UserError(
                f"This item has {has}, unlike the first one. Items of one kind are expected.",
                where=odd.name,
            )
        _check_patterns(items, config)
    except UsageError:
        raise
    except UserError as error:  # a wrong file is a wrong argument
        raise UsageError(
            error.message, where=error.where, command=error.command, settings=error.settings
        ) from error
    return items


def _item(record: Record) -> Item:
    question = _question(record)
    choices = _choices(record)
    answer_field = next((n for n in ANSWER_FIELDS if _has(record, n)), None)
    if answer_field is None:
        raise _missing(record, "an answer", ANSWER_FIELDS)
    answer = record.get(answer_field)
    answers: tuple[str, ...]
    index = -1
    if choices:
        index = _index(record, answer_field, answer, choices)
        answers = (choices[index],)
    else:
        answers = _answers(record, answer_field, answer)
    fields = {
        name: str(value)
        for name, value in record.values.items()
        if isinstance(value, (str, int, float)) and not isinstance(value, bool)
    }
    return Item(
        name=record.where,
        question=question,
        choices=choices,
        answer=index,
        answers=answers,
        fields={**fields, "question": question},
    )


def _has(record: Record, field: str) -> bool:
    return isinstance(record.values, dict) and field in record.values


def _missing(record: Record, what: str, names: Sequence[str]) -> UserError:
    if not isinstance(record.values, dict):
        return UserError(
            f"This record is {described(record.values)}. An object with a question, choices and "
            "an answer is expected.",
            where=record.where,
        )
    found = ", ".join(map(str, record.values)) or "none"
    return UserError(
        f"This item has no field for {what} (it has: {found}). One of {', '.join(names)} is "
        "expected.",
        where=record.where,
    )


def _question(record: Record) -> str:
    field = next((name for name in QUESTION_FIELDS if _has(record, name)), None)
    if field is None:
        raise _missing(record, "the question", QUESTION_FIELDS)
    text = record.text(field)
    more = record.get("input", None) if field == "instruction" else None
    if isinstance(more, str) and more.strip():
        text = f"{text}\n\n{more}"
    if not text.strip():
        raise UserError(
            f"The field {field!r} is empty. A question is expected.", where=record.where
        )
    return text


def _choices(record: Record) -> tuple[str, ...]:
    field = next((name for name in CHOICES_FIELDS if _has(record, name)), None)
    if field is None:
        # A table with a column for each choice.
        columns = [name for name in _LETTERS if _has(record, name)]
        if columns[:2] != ["A", "B"]:
            return ()
        found: Any = [record.get(name) for name in columns]
        while found and found[-1] in ("", None):
            found.pop()
        field = "A"
    else:
        found = record.get(field)
        if isinstance(found, str) and found.lstrip()[:1] == "[":  # a list in a cell of a table
            try:
                found = json.loads(found)
            except ValueError as error:
                raise UserError(
                    f"The field {field!r} is not a JSON list ({error}).", where=record.where
                ) from error
        if isinstance(found, dict):  # as in ARC: {"text": [...], "label": [...]}
            found = found.get("text")
    if found is None or found == "":
        return ()
    if not isinstance(found, list):
        raise UserError(
            f"The field {field!r} is {described(found)}. A list of texts is expected.",
            where=record.where,
        )
    choices = tuple(str(c) if isinstance(c, (int, float)) else c for c in found)
    for number, choice in enumerate(choices):
        if not isinstance(choice, str) or not choice.strip():
            is_empty = isinstance(choice, str)
            raise UserError(
                f"Choice {number} is {'empty' if is_empty else described(choice)}. A text is "
                "expected.",
                where=record.where,
            )
        if choice in choices[:number]:
            raise UserError(
                f"The choice {choice!r} occurs twice. Different choices are expected.",
                where=record.where,
            )
    if len(choices) < 2:
        raise UserError(
            f"This item has {len(choices)} choice. At least two are expected.", where=record.where
        )
    return choices


def _index(record: Record, field: str, answer: Any, choices: tuple[str, ...]) -> int:
    """Find the correct choice by its index, its text, its label or its letter."""
    index: int | None = None
    if isinstance(answer, str):
        labels = record.values.get("choices")
        names = labels.get("label") if isinstance(labels, dict) else None
        if answer in choices:
            return choices.index(answer)
        if isinstance(names, list) and answer in names:
            return names.index(answer)
        if answer.strip() in _LETTERS:
            index = _LETTERS.index(answer.strip())
        elif re.fullmatch(r"\s*-?\d+\s*", answer):
            index = int(answer)
    elif isinstance(answer, int) and not isinstance(answer, bool):
        index = answer
    if index is None:
        shown = repr(answer) if isinstance(answer, str) else described(answer)
        raise UserError(
            f"The field {field!r} is {shown}, which is none of the choices. The index of a "
            "choice, from 0, or its text is expected.",
            where=record.where,
        )
    if not 0 <= index < len(choices):
        raise UserError(
            f"The field {field!r} is {answer!r}, and there are {len(choices)} choices. An index "
            f"from 0 to {len(choices) - 1} is expected.",
            where=record.where,
        )
    return index


def _answers(record: Record, field: str, answer: Any) -> tuple[str, ...]:
    found = answer if isinstance(answer, list) else [answer]
    texts = [str(each) if type(each) in (int, float) else each for each in found]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise UserError(
            f"The field {field!r} is empty, or not a text. An answer, or a list of answers, is "
            "expected.",
            where=record.where,
        )
    return tuple(texts)


def _check_patterns(items: Sequence[Item], config: TaskConfig) -> None:
    if config.grader not in ("regex", "number") or items[0].is_choice:
        return
    for item in items:
        for answer in item.answers:
            if config.grader == "regex":
                try:
                    re.compile(answer)
                except re.error as error:
                    raise UserError(
                        f"The answer {answer!r} is not a regular expression ({error}). A pattern "
                        "of Python's module re is expected.",
                        where=item.name,
                    ) from error
            elif len(numbers_in(answer)) != 1:
                raise UserError(
                    f"The answer {answer!r} does not contain exactly one number, which the grader "
                    "'number' compares.",
                    where=item.name,
                    settings={"grader": "exact"},
                )


def numbers_in(text: str) -> list[float]:
    """Find the numbers in a text; a comma between three digits is no end.

    >>> numbers_in("It costs 1,250.50, not -3.")
    [1250.5, -3.0]
    """
    found = re.findall(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?", text)
    return [float(digits.replace(",", "")) for digits in found]
