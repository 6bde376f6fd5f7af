"""docs/evaluation.md: its task files are read, its code runs, and its commands are there."""

import json
import re
import shlex
from pathlib import Path
from typing import get_args

import pytest
from peers import peer
from task_files import write_model, write_task

from groundup.cli.main import main
from groundup.cli.options import options_of
from groundup.cli.verbs import VERBS
from groundup.evaluation.task_config import Grader, TaskConfig
from groundup.evaluation.tasks.items import (
    ANSWER_FIELDS,
    CHOICES_FIELDS,
    QUESTION_FIELDS,
    read_items,
)

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


def test_the_task_files_of_the_page_are_read(tmp_path: Path) -> None:
    found = []
    for number, block in enumerate(blocks("json")):
        lines = [json.loads(line) for line in block.splitlines()]
        path = write_task(tmp_path / f"{number}.jsonl", lines)
        found.append(read_items(path, TaskConfig()))
    choices, generation = found
    assert [item.answers[0] for item in choices] == ["ice", "fox", "red"]
    assert [item.answers for item in generation] == [("Paris",), ("8", "eight"), ("hot",)]


def test_the_tables_are_complete() -> None:
    rows = {line.split("|")[1].strip(): line for line in PAGE.splitlines() if line[:1] == "|"}
    for name, fields in (
        ("question", QUESTION_FIELDS),
        ("choices", CHOICES_FIELDS),
        ("answer", ANSWER_FIELDS),
    ):
        found = re.findall(r"`(\w+)`", rows[name])
        assert [each for each in found if each not in ("input", "A", "B", "C")] == list(fields)
    assert all(f"`{name}`" in rows for name in get_args(Grader))


def test_the_code_and_the_commands_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    peer("lm_eval")
    monkeypatch.chdir(tmp_path)
    write_model(Path("runs/story"))
    write_model(Path("runs/other"), d_model=16)
    names: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "docs/evaluation.md", "exec"), names)
    assert re.search(r"\d+ of 40; 95 % interval", capsys.readouterr().out)
    items = json.loads(blocks("json")[1].splitlines()[0])
    write_task(Path("say.jsonl"), [{**items, "question": f"Q{i}"} for i in range(30)])
    for line in "".join(blocks("sh")).splitlines():
        words = shlex.split(line)[1:]
        verb = next(verb for verb in VERBS if verb.name == words[0])
        options = {f"--{name.replace('_', '-')}" for name in options_of(verb.config_class())}
        assert {word for word in words if word.startswith("--")} <= options
        if verb.name == "evaluate" and not {"--data", "--recitations"} & set(words):
            assert main(words) == 0, line
