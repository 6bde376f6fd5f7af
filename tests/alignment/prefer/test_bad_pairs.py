"""Mistakes in pairs and settings: one line that says what to type, and nothing is written."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from groundup.alignment.prefer.config import PreferConfig
from groundup.base.errors import UserError
from groundup.cli.main import main

GOOD = [{"prompt": f"say {i}", "chosen": "the cat please", "rejected": "no"} for i in range(9)]


@pytest.fixture
def folder(assistant: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return assistant.parent


def fails(capsys: pytest.CaptureFixture[str], *words: str, statuses: tuple[int, ...] = (2,)) -> str:
    assert main(["prefer", *words]) in statuses
    captured = capsys.readouterr()
    assert captured.err.count("error:") == 1
    assert "Traceback" not in captured.out + captured.err
    return captured.err


def changed(**fields: Any) -> list[dict[str, Any]]:
    """Good records, of which the fifth is changed; None removes a field."""
    records = [dict(record) for record in GOOD]
    records[4] = {k: v for k, v in {**records[4], **fields}.items() if v is not ...}
    return records


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (changed(rejected=...), ["record 5", "no field 'rejected'", "it has: prompt, chosen"]),
        (changed(prompt=...), ["record 5", "no field 'prompt'", "it has: chosen, rejected"]),
        (changed(chosen=" "), ["record 5", "'chosen' is empty", "--skip-empty"]),
        (changed(rejected=None), ["record 5", "'rejected' is null", "--skip-empty"]),
        (changed(chosen=3.5), ["record 5", "'chosen' is the number 3.5"]),
        (changed(prompt=[]), ["record 5", "--skip-invalid"]),
        (
            changed(
                prompt=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
            ),
            ["record 5", "ends with a message of the user"],
        ),
        (
            changed(prompt=[{"role": "system", "content": "a"}] * 2),
            ["record 5", "2 system messages"],
        ),
    ],
)
def test_a_record_that_is_no_pair(
    folder: Path, capsys: pytest.CaptureFixture[str], records: Any, words: list[str]
) -> None:
    Path("pairs.json").write_text(json.dumps(records))
    message = fails(capsys, str(folder), "--records", "pairs.json", statuses=(1, 2))
    assert all(word in message for word in ["pairs.json", *words]), message
    assert not (folder / "preferred").exists()


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (GOOD[:1], ["1 of 1 pairs can be trained on. At least three are expected"]),
        (
            [{**r, "rejected": r["chosen"]} for r in GOOD],
            ["0 of 9 pairs", "both answers are equal"],
        ),
        (
            [{**r, "prompt": "the cat sat on the mat " * 20} for r in GOOD],
            ["the prompt is longer than the context", "pairs.json:1"],
        ),
        (
            [{**r, "rejected": "the cat sat on the mat " * 20} for r in GOOD],
            ["prompt and answer are longer than the context"],
        ),
        ([{**r, "prompt": "say it"} for r in GOOD], ["near duplicates"]),
    ],
)
def test_pairs_that_cannot_be_trained_on(
    folder: Path, capsys: pytest.CaptureFixture[str], records: Any, words: list[str]
) -> None:
    Path("pairs.json").write_text(json.dumps(records))
    message = fails(capsys, str(folder), "--records", "pairs.json", statuses=(1, 2))
    assert all(word in message for word in words), message
    assert not (folder / "preferred").exists()


def test_the_sets_of_each_fold_are_checked_before_anything_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = [p + "!" * i for p in ("say it", "the cat sat", "no fox here") for i in range(3)]
    Path("pairs.json").write_text(json.dumps([{**GOOD[0], "prompt": p} for p in prompts]))
    words = ("--records", "pairs.json", "--folds", "2", "--validation-frac", "0.3")
    message = fails(capsys, str(folder), *words)
    assert "The 3 rows form 1 groups" in message
    assert "--folds none --split random" in message
    assert not (folder / "preferred").exists()


def test_nan_in_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns: dict[str, Any] = {k: [r[k] for r in GOOD] for k in ("prompt", "rejected")}
    columns["chosen"] = [math.nan] * len(GOOD)
    parquet.write_table(pa.table(columns), "pairs.parquet")
    message = fails(capsys, str(folder), "--records", "pairs.parquet", statuses=(1, 2))
    assert "'chosen' is the number nan. A string is expected" in message


def test_no_file_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = fails(capsys, str(folder))
    assert "No file of preference pairs is given" in message
    assert "--records" in message
    assert "no such file" in fails(capsys, str(folder), "--records", "none.json", statuses=(1, 2))


def test_a_model_that_is_no_assistant(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("pairs.json").write_text(json.dumps(GOOD))
    (folder / "assistant" / "assistant.json").unlink()
    message = fails(capsys, str(folder), "--records", "pairs.json", statuses=(1, 2))
    assert "This model does not answer prompts" in message
    assert "groundup instruct" in message


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"loss": "ipo", "label_smoothing": 0.1}, "no label smoothing"),
        ({"folds": 2, "split": "in-order"}, "so split does not apply"),
        ({"folds": 2, "test_frac": 0.5}, "so test_frac does not apply"),
        ({"test_frac": 0.6, "validation_frac": 0.5}, "no pairs for training"),
        ({"folds": 5, "budget": "10m"}, "budget cannot be set"),
        ({"folds": 5, "split_column": "set"}, "split_column cannot be set"),
        ({"beta": 0.0}, "beta"),
        ({"label_smoothing": 0.5}, "label_smoothing"),
        ({"loss": "dpo"}, "loss"),
    ],
)
def test_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        PreferConfig(**settings)
