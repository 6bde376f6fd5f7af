"""What each grader accepts and refuses."""

import pytest

from groundup.evaluation.tasks.graders import grade


@pytest.mark.parametrize(
    ("grader", "output", "answer", "is_right"),
    [
        ("exact", " Paris. ", "Paris", True),
        ("exact", '"Paris"', "Paris", True),
        ("exact", "paris", "Paris", False),
        ("exact", "Paris, France", "Paris", False),
        ("exact", "a\n b", "a b", True),
        ("ignore-case", "PARIS", "Paris", True),
        ("ignore-case", "Paris!", "Paris", False),
        ("number", "3 + 4 = 7", "7", True),
        ("number", "7 or 8", "7", False),
        ("number", "It is 1,250.0.", "1250", True),
        ("number", "none", "7", False),
        ("contains", "The answer is PARIS, of course", "Paris", True),
        ("contains", "Parisian", "Paris", False),
        ("contains", "C++ is it", "C++", True),
        ("regex", "colour", "colou?r", True),
        ("regex", "The colr", "colou?r", False),
        ("regex", "say yes", "^yes$", False),
    ],
)
def test_a_grader(grader, output, answer, is_right):
    assert grade(grader, output, [answer]) is is_right
    assert grade(grader, output, ["qqq 99", answer]) is is_right


def test_every_answer_accepts_itself():
    for grader in ("exact", "ignore-case", "contains"):
        for answer in ("Paris.", "'quoted'", "12 km", "What?", "naïve\ncafé"):
            assert grade(grader, answer, [answer])
