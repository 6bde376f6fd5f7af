"""`groundup evaluate --task` and `groundup judge` as a person uses them."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest
from judge_server import longer, said, serving
from task_files import rows, write_model, write_task

from groundup.cli.main import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from groundup.cli import console

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(console.console, "width", 80)
    write_model(Path("run"))
    write_task(Path("quiz.jsonl"), rows())
    return tmp_path


def test_a_task_on_a_screen_of_80_columns(folder, capsys):
    assert main(["evaluate", "run", "--task", "quiz.jsonl", "--shots", "2", "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert len(shown.splitlines()) <= 36
    assert "quiz.jsonl: 40 items, plain prompts, 2 examples" in shown
    assert "3 of " in shown  # mistakes
    assert "without sharing prefixes" in shown
    log = shown.split("Log of all items: ")[1].split("\n\n")[0].replace("\n", "").strip()
    assert len(Path(log).read_text().splitlines()) == 40
    assert "next: groundup evaluate run --task quiz.jsonl --device cpu --shots 3" in shown
    assert not Path("run/results/evaluate.json").exists()  # that is the loss
    assert main(["evaluate", "run", "--task", "quiz.jsonl", "--shots", "2", "--device", "cpu"]) == 0
    assert "40 items were in the log of an earlier evaluation." in capsys.readouterr().out


def test_a_comparison(folder, capsys):
    write_model(Path("other"), d_model=16)
    assert (
        main(["evaluate", "run", "--task", "quiz.jsonl", "--against", "other", "--device", "cpu"])
        == 0
    )
    shown = capsys.readouterr().out
    assert "Against other, item by item" in shown
    assert "points [" in shown.replace("\n", " ")
    assert "McNemar p =" in shown.replace("\n", " ")
    assert "next: groundup generate run" in shown


BAD = {
    "few items": (rows(29), "", "There are 29 items, which are too few to compare."),
    "an index out of range": ([*rows(39), {**rows(1)[0], "answer": 4}], "", "quiz.jsonl:40: "),
    "one choice": ([{**rows(1)[0], "choices": ["a"]}], "", "This item has 1 choice."),
    "an empty choice": ([{**rows(1)[0], "choices": ["a", ""]}], "", "Choice 1 is empty."),
    "no column": ([{"choices": ["a", "b"], "answer": 0}], "", "(it has: choices, answer)"),
    "a long prompt": ([*rows(39), {**rows(1)[0], "question": "hi " * 300}], "", "does not fit"),
    "a pattern": (
        [{"question": "Q", "answer": "("}],
        "--grader regex",
        "no",
    ),
    "a field": (rows(), "--prompt {x}", "'x', and this item has no such text"),
    "many examples": (rows(), "--shots 40", "--shots 39"),
    "no template": (rows(), "--template chat", "--template plain"),
    "no training set": (rows(), "--contamination", "--data path/to/data"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_status_2(folder, capsys, name):
    items, options, words = BAD[name]
    write_task(Path("quiz.jsonl"), items)
    command = f"evaluate run --task quiz.jsonl --device cpu {options}"
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert "Traceback" not in error
    if name == "a long prompt":
        assert "quiz.jsonl:40: " in error
        assert "--overlong drop" in error
    elif name == "a pattern":
        assert "'(' is not a regular expression" in error
    else:
        assert words in error


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (bytes(range(256)) * 9, "binary"),
        ('{"question": "ü"}'.encode("latin-1"), "enc"),
    ],
)
def test_a_file_that_is_no_task_has_status_2(folder, capsys, content, words):
    Path("quiz.jsonl").write_bytes(content)
    assert main(["evaluate", "run", "--task", "quiz.jsonl"]) == 2
    assert words in capsys.readouterr().err
    assert main(["evaluate", "run", "--task", "none.jsonl"]) == 2


def test_another_version_of_the_task_has_status_2(folder, capsys):
    assert main(["evaluate", "run", "--task", "quiz.jsonl", "--device", "cpu"]) == 0
    (log,) = Path("run/evaluation/tasks").iterdir()
    write_task(Path("quiz.jsonl"), rows(seed=9))
    words = f"evaluate run --task quiz.jsonl --device cpu --against {log}"
    assert main(words.split()) == 2
    assert "of another version of the task" in capsys.readouterr().err


def test_ctrl_c_is_one_line_and_the_same_command_continues(folder, capsys, monkeypatch):
    from groundup.evaluation.tasks.log import TaskLog

    add = TaskLog.add

    def interrupted(self, index, row):
        add(self, index, row)
        if len(self.rows) == 12:
            os.kill(os.getpid(), signal.SIGINT)

    command = ["evaluate", "run", "--task=quiz.jsonl", "--device", "cpu"]
    with monkeypatch.context() as patch:
        patch.setattr(TaskLog, "add", interrupted)
        assert main(command) == 130
    error = capsys.readouterr().err.strip()
    assert error == f"Stopped. The same command resumes it: groundup {' '.join(command)}"
    assert main(command) == 0
    assert "12 items were in the log" in capsys.readouterr().out


def answers(name: str, text: str, n: int = 36) -> None:
    lines = [{"question": f"Q{i}?", "answer": text} for i in range(n)]
    Path(name).write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_judge_on_a_screen_of_80_columns(folder, capsys):
    answers("a.jsonl", "a longer answer")
    answers("b.jsonl", "short")
    with serving(longer) as server:
        words = ["judge", "a.jsonl", "b.jsonl", "--url", server.url, "--model", "m"]
        assert main([*words, "--show"]) == 0
        shown = capsys.readouterr().out
        assert shown.count("<question>") == 2
        assert not server.requests
        assert main([*words, "--criterion", "which is shorter"]) == 0
    shown = capsys.readouterr().out
    command = " ".join(words)
    assert f"next: groundup {command} --criterion 'which is shorter' --show" in shown
    assert all(len(line) <= 80 for line in shown.splitlines() if "next:" not in line)
    assert "a.jsonl wins 100.0% of 36 pairs" in shown
    assert "95 % interval" in shown
    with serving(lambda request: said("[[1]]")) as server:
        words = ["judge", "a.jsonl", "b.jsonl", "--url", server.url, "--model", "m"]
        assert main(words) == 0
    shown = capsys.readouterr().out
    assert "no clear difference" in shown
    assert "! The judge preferred the first answer in 100% of its verdicts." in shown


def test_bad_input_of_the_judge_has_status_2(folder, capsys):
    answers("a.jsonl", "x", 29)
    for words, message in [
        ("judge a.jsonl", "Two files of answers, or two runs, are expected"),
        (
            "judge a.jsonl a.jsonl --url http://h --model m",
            "29 pairs of answers, which",
        ),
        ("judge a.jsonl none.jsonl --url http://h --model m", "none.jsonl"),
        ("judge run run --url http://h --model m", "--prompts questions.jsonl"),
    ]:
        assert main(words.split()) == 2, words
        assert message in capsys.readouterr().err
    answers("a.jsonl", "x")
    answers("b.jsonl", "y")
    for words, message in [
        ("judge a.jsonl b.jsonl --model m", "--url http://localhost:8000/v1"),
        ("judge a.jsonl b.jsonl --url http://h", "--model name-of-the-model"),
        ("judge a.jsonl b.jsonl --url h --model m", "http:// or https:// is expected"),
    ]:
        assert main(words.split()) == 2, words
        assert message in capsys.readouterr().err


def test_ctrl_c_does_not_wait_for_the_judge(folder, capsys):
    answers("a.jsonl", "x")
    answers("b.jsonl", "y")
    with serving(longer, delay_s=5.0) as server:
        words = ["judge", "a.jsonl", "b.jsonl", "--url", server.url, "--model", "m"]
        threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        assert main(words) == 130
        assert server.n_open > 0
    assert "The same command resumes it" in capsys.readouterr().err
