"""Graders: functions of an answer and the expected text that decide whether the answer is correct.

They are deterministic and use no model as a judge.
"""

import re
from collections.abc import Callable

from groundup.evaluation.tasks.graders import normalized

Grader = Callable[[str, str], bool]

NUMBER_WORDS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
)


def exact(answer: str, expected: str) -> bool:
    """Test for an exact match, up to white space, quotation marks and a final full stop.

    >>> exact("True.", "True"), exact("true", "True"), exact("It is True", "True")
    (True, False, False)
    """
    return normalized(answer) == normalized(expected)


def exact_ignoring_case(answer: str, expected: str) -> bool:
    """Test for an exact match like `exact`, ignoring case: for yes-or-no questions.

    >>> exact_ignoring_case("Yes", "yes"), exact_ignoring_case("yes and no", "yes")
    (True, False)
    """
    return exact(answer.casefold(), expected.casefold())


def number(answer: str, expected: str) -> bool:
    """Test whether the answer contains the expected number, in digits or words up to ten.

    An answer with two different numbers is wrong.

    >>> number("There are 5 words.", "5"), number("five", "5"), number("4 or 5", "5")
    (True, True, False)
    """

    def numbers(text: str) -> set[float]:
        found = {float(digits) for digits in re.findall(r"-?\d+(?:\.\d+)?", text)}
        words = re.findall(r"[a-z]+", text.casefold())
        return found | {float(NUMBER_WORDS.index(word)) for word in words if word in NUMBER_WORDS}

    target = numbers(expected)
    if len(target) != 1:
        raise ValueError(f"The expected answer {expected!r} must contain exactly one number.")
    return numbers(answer) == target


def final_word(answer: str, expected: str) -> bool:
    """Test whether the answer ends with the last word of the expected text.

    >>> final_word("object", "The first word is object.")
    True
    >>> final_word("The first word is objects.", "The first word is object.")
    False
    """
    found, target = normalized(answer).split(), normalized(expected).split()
    return bool(found) and found[-1] == target[-1]
