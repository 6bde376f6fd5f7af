"""Records and templates that cannot be trained on: one sentence, exit code 2, and what to type."""

import json
from pathlib import Path
from typing import Any

import pytest
from foreign_models import write_foreign

from groundup.cli.main import main
from groundup.evaluation.pretrained import import_pretrained

USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
SYSTEM = {"role": "system", "content": "Be kind."}
GOOD = {"instruction": "say it", "output": "it"}


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that fails, and return its message."""
    capsys.readouterr()
    assert main(["instruct", *words, "--device", "cpu"]) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return " ".join(captured.err.split())


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (
            {"messages": [SYSTEM, SYSTEM, USER, ANSWER]},
            "a.json, record 2: The conversation has 2 system messages. At most one is expected",
        ),
        (
            {"messages": [USER, ANSWER, USER]},
            "record 2: The last message is of the user. A conversation that ends with an answer",
        ),
        ({"messages": [USER, {**ANSWER, "content": " "}]}, "record 2: The field 'answer"),
        ({**GOOD, "output": ""}, "record 2: The field 'output' is empty"),
        ({**GOOD, "output": None}, "record 2: The field 'output' is null"),
        ({"text": "Hi"}, "record 2: The fields of this record are: text. Expected are instruction"),
        ({**GOOD, "tools": "[]"}, "record 2: The record has a field 'tools'"),
    ],
)
def test_records(
    run: Path, record: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run.parent / "a.json"
    path.write_text(json.dumps([GOOD, record]))
    found = fails(capsys, str(run), "--records", str(path))
    assert words in found
    assert "Try: groundup instruct" in found
    assert not (run / "assistant").exists()


def test_a_prompt_that_is_longer_than_the_context(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run.parent / "a.json"
    path.write_text(json.dumps([GOOD, {**GOOD, "instruction": "the cat " * 40}]))
    words = (str(run), "--records", str(path))
    found = fails(capsys, *words)
    assert "1 of 2 records are longer than the context length of 24 tokens" in found
    found = fails(capsys, *words, "--overlong", "error")
    assert "a.json:2: This conversation has" in found
    assert "--overlong drop" in found


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (
            "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
            "chat_template.jinja: The chat template has no part for the assistant",
        ),
        (
            "{% for m in messages %}{{ m.content }}{% endfor %}",
            "chat_template.jinja: The chat template writes no special token at the end",
        ),
        (
            "{% for m in messages %}{{ raise_exception('no') }}{% endfor %}",
            "The chat template refuses the messages: no",
        ),
    ],
)
def test_templates(
    tmp_path: Path, template: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = import_pretrained(source=write_foreign(tmp_path / "hf"), out=tmp_path / "run").run
    (run / "tokenizer" / "chat_template.jinja").write_text(template)
    path = tmp_path / "a.json"
    path.write_text(json.dumps([GOOD, {**GOOD, "instruction": "tell it"}]))
    assert words in fails(capsys, str(run), "--records", str(path))


def test_folds_without_records(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Folds need a file of records" in fails(capsys, str(run), "--folds", "5")


def test_folds_beside_a_budget(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run.parent / "a.json"
    path.write_text(json.dumps([GOOD]))
    found = fails(capsys, str(run), "--records", str(path), "--folds", "5", "--budget", "10m")
    assert "so budget does not apply" in found


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--epochs", "3"], "epochs is set, and there is no file of records"),
        (["--max-test", "3"], "max_test is set, and there is no file of records"),
        (
            ["--records", "a.json", "--folds", "4", "--split-column", "part"],
            "so split_column does not apply",
        ),
        (["--records", "a.json", "--validate-every", "0"], "validate_every is 0"),
    ],
)
def test_settings_without_effect(
    run: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert says in fails(capsys, str(run), *words)


def test_too_few_records_for_a_test_set(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run.parent / "a.json"
    path.write_text(json.dumps([{**GOOD, "instruction": f"say {i}"} for i in range(9)]))
    found = fails(capsys, str(run), "--records", str(path), "--split", "in-order")
    assert "leave the training set or the test set empty" in found
    assert found.endswith("--split random")


def test_groups_that_cannot_be_divided(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run.parent / "a.json"
    path.write_text(json.dumps([{**GOOD, "instruction": "say it" + "!" * i} for i in range(5)]))
    found = fails(capsys, str(run), "--records", str(path))
    assert "The 5 rows form 1 groups of near duplicates" in found
    assert f"Try: groundup instruct {run} --records" in found.replace("'", "")
    assert found.endswith("--split random")
    found = fails(capsys, str(run), "--records", str(path), "--folds", "3", "--split", "random")
    assert "form 1 groups of near duplicates" in found
    assert found.endswith("--folds none")
