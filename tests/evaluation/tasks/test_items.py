"""A task is read from any file of records, and every mistake in it is named."""

import json
from pathlib import Path

import pytest

from groundup.base.errors import UsageError
from groundup.evaluation.task_config import TaskConfig
from groundup.evaluation.tasks.items import numbers_in, read_items

GOOD = {"question": "Which is cold?", "choices": ["ice", "fire"], "answer": 0}


def read(path: Path, text: str | bytes, **settings):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_items(path, TaskConfig(**settings))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"question": "Q?", "choices": ["x", "y"], "answer": 1}\n'),
        ("a.jsonl", '{"question": "Q?", "choices": ["x", "y"], "answer": "y"}\n'),
        ("a.jsonl", '{"prompt": "Q?", "options": ["x", "y"], "label": "B"}\n'),
        ("a.json", '[{"text": "Q?", "endings": ["x", "y"], "gold": "1"}]'),
        ("a.csv", "question,A,B,C,answer\nQ?,x,y,,B\n"),
        ("a.tsv", 'question\tchoices\tanswer\nQ?\t["x", "y"]\ty\n'),
        (
            "a.jsonl",  # ARC
            '{"question": "Q?", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, '
            '"answerKey": "2"}\n',
        ),
    ],
)
def test_items_with_choices(tmp_path, name, text):
    (item,) = read(tmp_path / name, text)
    assert (item.question, item.choices, item.answer) == ("Q?", ("x", "y"), 1)
    assert item.answers == ("y",)


def test_a_number_is_an_index_and_a_text_is_first_a_choice(tmp_path):
    text = json.dumps({"question": "Q?", "choices": ["1", "0"], "answer": 1}) + "\n"
    text += json.dumps({"question": "Q?", "choices": ["1", "0"], "answer": "1"}) + "\n"
    assert [item.answer for item in read(tmp_path / "a.jsonl", text)] == [1, 0]


def test_items_from_parquet(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"question": ["Q?"], "choices": [["x", "y"]], "answer": [1], "other": [2]})
    parquet.write_table(table, tmp_path / "a.parquet")
    (item,) = read_items(tmp_path / "a.parquet", TaskConfig())
    assert item.choices == ("x", "y")
    assert item.fields["other"] == "2"


def test_items_with_answers(tmp_path):
    text = '{"instruction": "Add.", "input": "1 + 1", "output": "2"}\n'
    text += '{"question": "Q?", "answers": ["two", 2]}\n'
    first, second = read(tmp_path / "a.jsonl", text)
    assert (first.question, first.answers) == ("Add.\n\n1 + 1", ("2",))
    assert second.answers == ("two", "2")
    assert not second.is_choice


BAD = {
    "an index out of range": (
        {**GOOD, "answer": 2},
        r"a.jsonl:1: The field 'answer' is 2, and there are 2 choices. An index from 0 to 1 is",
    ),
    "a negative index": ({**GOOD, "answer": -1}, "is -1, and there are 2 choices"),
    "a letter out of range": ({**GOOD, "answer": "C"}, "is 'C', and there are 2 choices"),
    "another text": ({**GOOD, "answer": "snow"}, "is 'snow', which is none of the choices"),
    "no index": ({**GOOD, "answer": 0.5}, "the number 0.5, which is none of the choices"),
    "true": ({**GOOD, "answer": True}, "is true, which is none of the choices"),
    "one choice": ({**GOOD, "choices": ["ice"]}, "This item has 1 choice. At least two are"),
    "an empty choice": ({**GOOD, "choices": ["ice", " "]}, "Choice 1 is empty. A text is"),
    "null as a choice": ({**GOOD, "choices": ["ice", None]}, "Choice 1 is null"),
    "the same choice twice": ({**GOOD, "choices": ["a", "b", "a"]}, "'a' occurs twice"),
    "choices are text": ({**GOOD, "choices": "ice or fire"}, "'choices' is a string. A list of"),
    "a broken list": ({**GOOD, "choices": '["ice", '}, "not a JSON list"),
    "no question": (
        {"choices": ["a", "b"], "answer": 0},
        r"no field for the question \(it has: choices, answer\). One of question, prompt,",
    ),
    "no answer": (
        {"question": "Q?", "choices": ["a", "b"]},
        r"no field for an answer \(it has: question, choices\). One of answer, answers,",
    ),
    "an empty question": ({**GOOD, "question": " "}, "'question' is empty"),
    "an empty answer": ({"question": "Q?", "answer": ""}, "'answer' is empty, or not a text"),
    "not an object": ([1, 2], "This record is a list of 2 values"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_item_is_named(tmp_path, name):
    record, message = BAD[name]
    with pytest.raises(UsageError, match=message) as found:
        read(tmp_path / "a.jsonl", json.dumps(record) + "\n" + json.dumps(GOOD) + "\n")
    assert "a.jsonl:1" in str(found.value)


def test_items_of_two_kinds_are_refused(tmp_path):
    text = json.dumps(GOOD) + '\n{"question": "Q?", "answer": "yes"}\n'
    with pytest.raises(UsageError, match=r"a.jsonl:2: This item has no choices, unlike the first"):
        read(tmp_path / "a.jsonl", text)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "The file is empty"),
        ("a.jsonl", b"\x00\x01\x02" * 99, "binary"),
        ("a.jsonl", '{"question": "ü"}'.encode("latin-1"), "encoding"),
        ("a.jsonl", b"{'question': 1}\n", "a.jsonl:1"),
        ("a.txt", b"What is this?\n", "a text without records"),
    ],
)
def test_a_file_that_is_no_task_is_refused(tmp_path, name, content, message):
    with pytest.raises(UsageError, match=message):
        read(tmp_path / name, content)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"none.jsonl"):
        read_items(tmp_path / "none.jsonl", TaskConfig())


def test_an_invalid_pattern_is_named(tmp_path):
    text = '{"question": "Q?", "answer": "(["}\n'
    with pytest.raises(UsageError, match=r"a.jsonl:1: .*'\(\[' is not a regular expression"):
        read(tmp_path / "a.jsonl", text, grader="regex")


def test_an_answer_without_a_number_is_named(tmp_path):
    text = '{"question": "Q?", "answer": "many"}\n'
    with pytest.raises(UsageError, match="'many' does not contain exactly one number"):
        read(tmp_path / "a.jsonl", text, grader="number")


def test_numbers():
    assert numbers_in("-3, 4.5 and 1,000,000; v2 is 7.") == [-3, 4.5, 1e6, 7]
