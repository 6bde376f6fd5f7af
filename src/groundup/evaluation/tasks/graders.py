"""Graders decide whether a generated answer is correct. They are deterministic."""

import re
from collections.abc import Sequence

from groundup.evaluation.task_config import Grader
from groundup.evaluation.tasks.items import numbers_in


def grade(grader: Grader, output: str, answers: Sequence[str]) -> bool:
    """Decide whether an output is one of the answers.

    Args:
        grader: exact: equal, up to white space, one pair of quotation marks and a final full stop;
            ignore-case: the same without regard to case; number: the last number of the output
            is that of an answer; contains: an answer occurs in the output as whole words, without
            regard to case; regex: an answer, read as a regular expression, matches somewhere.
        output: The generated text.
        answers: The texts that are correct.

    >>> grade("exact", ' "Paris".', ["Paris"]), grade("exact", "paris", ["Paris"])
    (True, False)
    >>> grade("number", "3 + 4 is 7.", ["7"]), grade("contains", "It is cold.", ["old"])
    (True, False)
    """
    return any(_matches(grader, output, answer) for answer in answers)


def _matches(grader: Grader, output: str, answer: str) -> bool:
    match grader:
        case "exact":
            return normalized(output) == normalized(answer)
        case "ignore-case":
            return normalized(output).casefold() == normalized(answer).casefold()
        case "number":
            return numbers_in(output)[-1:] == numbers_in(answer)[-1:] != []
        case "contains":
            pattern = rf"(?<!\w){re.escape(_folded(answer))}(?!\w)"
            return re.search(pattern, _folded(output)) is not None
        case "regex":
            return re.search(answer, output) is not None


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def normalized(text: str) -> str:
    """Fold white space, and remove one pair of quotation marks and a final full stop.

    >>> normalized('  "Hello  world". ')
    'Hello world'
    """
    text = " ".join(text.split()).removesuffix(".").strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    return text
