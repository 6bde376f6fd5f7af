"""Deterministic graders: did the answer say what was asked? No model judges another here.

A grader is a function of the answer and the expected text. The same answer always gets the same
verdict.
"""

import re
from collections.abc import Callable

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


def normalise(text: str) -> str:
    """Collapse white space and drop one layer of quotation marks and a final full stop.

    >>> normalise('  "Hello  world". ')
    'Hello world'
    """
    text = " ".join(text.split()).removesuffix(".").strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    return text


def exact(answer: str, expected: str) -> bool:
    """The answer is the expected text, up to white space, quotation marks and a final full stop.

    >>> exact("True.", "True"), exact("true", "True"), exact("It is True", "True")
    (True, False, False)
    """
    return normalise(answer) == normalise(expected)


def exact_ignoring_case(answer: str, expected: str) -> bool:
    """As `exact`, with capital and small letters alike: for yes and no.

    >>> exact_ignoring_case("Yes", "yes"), exact_ignoring_case("yes and no", "yes")
    (True, False)
    """
    return exact(answer.casefold(), expected.casefold())


def contains(answer: str, expected: str) -> bool:
    """The expected text stands in the answer as whole words.

    >>> contains("it is the object", "object"), contains("objects", "object")
    (True, False)
    """
    pattern = r"(?<!\w)" + re.escape(normalise(expected)) + r"(?!\w)"
    return re.search(pattern, " ".join(answer.split())) is not None


def number(answer: str, expected: str) -> bool:
    """The one number in the answer, in digits or a word up to ten, equals the expected number.

    Two different numbers in one answer are a hedge and count as wrong.

    >>> number("There are 5 words.", "5"), number("five", "5"), number("4 or 5", "5")
    (True, True, False)
    """

    def numbers(text: str) -> set[float]:
        found = {float(digits) for digits in re.findall(r"-?\d+(?:\.\d+)?", text)}
        words = re.findall(r"[a-z]+", text.casefold())
        return found | {float(NUMBER_WORDS.index(word)) for word in words if word in NUMBER_WORDS}

    wanted = numbers(expected)
    if len(wanted) != 1:
        raise ValueError(f"the expected answer {expected!r} is not one number")
    return numbers(answer) == wanted


def final_word(answer: str, expected: str) -> bool:
    """The last word of the answer is the last word of the expected one, however it is led up to.

    >>> final_word("object", "The first word is object.")
    True
    >>> final_word("The first word is objects.", "The first word is object.")
    False
    """
    said, wanted = normalise(answer).split(), normalise(expected).split()
    return bool(said) and said[-1] == wanted[-1]
