"""Without RUN every command takes the same run and names it; a folder of another kind is named."""

import json
import shlex
import shutil
from pathlib import Path

import pytest

from groundup.chat.assistant import open_chat
from groundup.chat.config import ChatConfig
from groundup.cli.main import main
from groundup.cli.verbs import VERBS
from groundup.evaluation.config import EvaluateConfig
from groundup.evaluation.evaluate import evaluate
from groundup.inspection.config import ExplainConfig
from groundup.inspection.explain import explain

ON_A_RUN = {
    "evaluate": "",
    "generate": "--samples 1 --max-new-tokens 2",
    "export": "",
    "match": "--against runs/model",
    "classify": "--n-classes 2",
    "predict": "--text hello",
    "serve": "--try 1",
    "instruct": "--steps 1 --batch-size 2 --test-per-kind 1 --max-new-tokens 2",
    "prefer": "--records pairs.jsonl --steps 1 --batch-size 2 --max-new-tokens 2",
    "reinforce": "--steps 1 --batch-size 2 --least-start 0 --shots 0 --test-items 30 "
    "--test-samples 1 --max-new-tokens 2",
    "chat": "--ask hello --max-new-tokens 2",
    "explain": "",
    "report": "",
    "doctor": "",
}


def test_all_commands_with_a_run_are_here() -> None:
    assert set(ON_A_RUN) == {verb.name for verb in VERBS if verb.positional == "run"}


@pytest.mark.parametrize("command", ON_A_RUN)
def test_the_newest_run_is_taken_and_named(
    command: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([command, *ON_A_RUN[command].split()])
    seen = capsys.readouterr()
    where = seen.err if command in ("chat", "predict") else seen.out
    assert where.startswith("Using the newest run: runs/model\n")
    if command == "chat":  # the output of a pipe is the answers alone
        assert "Using" not in seen.out
    else:
        assert "runs/model" in seen.out.partition("next: ")[2]
    assert main([command, "--help"]) == 0
    assert "runs/." in capsys.readouterr().out


@pytest.mark.parametrize("command", ON_A_RUN)
def test_without_any_run_it_is_said_what_to_type(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([command]) == 1
    assert capsys.readouterr().err.rstrip().endswith("Try: groundup story")
    assert list(tmp_path.iterdir()) == []


def test_python_callers_get_the_newest_run_too(project: Path) -> None:
    evaluate(EvaluateConfig())
    assert (project / "runs" / "model" / "evaluation" / "loss.json").is_file()
    assert explain(ExplainConfig()).report == Path("runs/model/report.html")
    shutil.rmtree(project / "runs" / "first")
    assert open_chat(ChatConfig()).messages == []


def help_line(error: str) -> list[str]:
    return shlex.split(error.strip().rpartition("Try: ")[2])


@pytest.mark.parametrize("command", ON_A_RUN)
def test_a_data_folder_is_no_run(
    command: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ON_A_RUN[command].split()
    assert main([command, "data", *options]) == 1
    error = capsys.readouterr().err
    assert "This is a data folder, not a run. Runs made from it: runs/model, runs/first." in error
    assert help_line(error) == ["groundup", command, "runs/model", *options]
    assert main([command, "data/train", *options]) == 1
    assert "This is a part of a data folder" in capsys.readouterr().err


def test_other_folders_are_no_runs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("my docs/deep").mkdir(parents=True)
    Path("my docs/a.txt").write_text("a")
    Path("my docs/deep/b.txt").write_text("b")
    assert main(["generate", "my docs"]) == 1
    assert "my docs: This folder holds 2 text files, not a run." in capsys.readouterr().err
    assert main(["export", "runs/model", "--out", "hf"]) == 0
    assert main(["generate", "hf"]) == 1
    assert help_line(capsys.readouterr().err) == ["groundup", "import", "hf"]
    assert main(["evaluate", "--batch-size", "2", "run/model"]) == 1
    error = capsys.readouterr().err
    assert "Runs in runs/: runs/model, runs/first." in error
    assert help_line(error) == ["groundup", "evaluate", "runs/model", "--batch-size", "2"]
    assert main(["compare", "data", "runs/model"]) == 1
    assert "not a run" in capsys.readouterr().err


ON_DATA = ["verify", "train-tokenizer", "encode", "windows", "ledger", "plan", "pretrain"]


@pytest.mark.parametrize("command", ON_DATA)
def test_a_run_is_no_data_folder(
    command: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "runs/model"]) == 1
    error = capsys.readouterr().err
    assert "This is a run, not a data folder. It was made from data." in error
    assert help_line(error) == ["groundup", command, "data"]


@pytest.mark.parametrize("command", ON_DATA)
def test_raw_texts_are_no_data_folder(
    command: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("my docs").mkdir()
    for number in range(31):
        Path(f"my docs/{number}.txt").write_text("a text")
    assert main([command, "my docs"]) == 1
    error = capsys.readouterr().err
    assert "my docs: This folder holds 31 text files, not prepared data." in error
    assert help_line(error) == ["groundup", "prepare", "my docs", "--out", "data-2"]
    assert main([command, "dta"]) == 1
    assert help_line(capsys.readouterr().err) == ["groundup", command, "data"]
    shutil.rmtree("data")
    assert main([command, "my docs"]) == 1
    assert help_line(capsys.readouterr().err) == ["groundup", "prepare", "my docs"]
    assert main([command, "dta"]) == 1
    assert help_line(capsys.readouterr().err) == ["groundup", "prepare", "--out", "dta"]


def test_a_data_folder_is_no_token_store(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "data", "--out", "t.bin"]) == 1
    error = capsys.readouterr().err
    assert "data/train or data/validation" in error
    assert main(help_line(error)[1:]) == 0


@pytest.mark.parametrize("inside", ["classifier", "assistant"])
def test_explain_what_is_fine_tuned_writes_the_report_of_its_run(
    inside: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", f"runs/model/{inside}"]) == 0
    shown = capsys.readouterr().out
    assert "Report: runs/model/report.html" in shown
    if inside == "assistant":  # a classifier has a page of its own
        assert not Path(f"runs/model/{inside}/report.html").exists()
    assert help_line(shown.replace("next:", "Try:"))[1:] == ["chat", "runs/model"]


def test_compare_proposes_runs_that_exist(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for few in ([], ["runs/model"]):
        assert main(["compare", *few]) == 2
        line = help_line(capsys.readouterr().err)
        assert line == ["groundup", "compare", "runs/first", "runs/model"]
    assert main(line[1:]) == 0


def test_a_line_of_the_own_text_is_shown(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    documents = Path("data/corpus/validation.jsonl").read_text().splitlines()
    text = "\n".join(json.loads(document)["text"] for document in documents)
    for place in ("data", "runs/model", "data/tokenizer"):
        assert main(["tokens", place, "--most", "1"]) == 0
        line = capsys.readouterr().out.splitlines()[1].replace("|", "")
        assert line[:40] in text
    assert main(["export", "runs/model", "--out", "hf"]) == 0
    capsys.readouterr()
    assert main(["import", "hf", "--out", "runs/copy"]) == 0
    words = help_line(capsys.readouterr().out.replace("next:", "Try:"))
    assert words[:3] == ["groundup", "generate", "runs/copy"]
    assert words[3].removeprefix("--prompt=") in text
    assert main([*words[1:], "--max-new-tokens", "2"]) == 0
