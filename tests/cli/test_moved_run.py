"""A run works in every command from another working directory, and after it was moved."""

import json
import shutil
from pathlib import Path

import pytest

from groundup.base.run import RunFolder
from groundup.cli import console
from groundup.cli.main import main
from groundup.evaluation.run_data import data_of, documents_of
from groundup.text.builtin import python_reference

OLD = Path(__file__).parents[1] / "fixtures" / "run-0.1.0"
SHAPE = "--context-length 64 --d-model 16 --n-layers 1 --n-heads 1"
COMMANDS = {
    "evaluate": "",
    "generate": "--samples 1 --max-new-tokens 4",
    "export": "",
    "classify": "--n-classes 2",
    "instruct": "--steps 2 --batch-size 2 --test-per-kind 1 --max-new-tokens 2",
    "chat": "--ask hello --max-new-tokens 2",
    "explain": "",
    "report": "",
    "doctor": "",
}
NEED_DATA = ("evaluate", "classify", "instruct")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with data/ and runs/model, made from inside it as a user does."""
    project = tmp_path_factory.mktemp("trained") / "project"
    project.mkdir()
    text = "\n\n".join(document.text for document in python_reference())
    (project / "text.txt").write_text(text[:30_000], encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        for command in (
            "prepare text.txt",
            "train-tokenizer --vocab-size 300",
            f"pretrain --steps 2 --batch-size 2 --sample-every 0 --no-curves -o runs/model {SHAPE}",
            f"instruct runs/model {COMMANDS['instruct']}",
        ):
            assert main(command.split()) == 0, command
    return project


@pytest.fixture
def project(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy whose recorded paths are its own; the working directory holds data of another."""
    project = tmp_path / "project"
    shutil.copytree(trained, project)
    for manifest in (project / "runs").rglob("manifest.json"):
        manifest.write_text(manifest.read_text().replace(str(trained), str(project)))
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(OLD / "data", elsewhere / "data")
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(console.console, "width", 500)
    return project


def moved(project: Path, how: str) -> tuple[Path, Path]:
    """Move the run, or its data, or both; give where they are now."""
    run, data, away = project / "runs" / "model", project / "data", project.parent / "away"
    if how == "with its project":
        project.rename(away)
        return away / "runs" / "model", away / "data"
    if how == "alone":
        away.mkdir()
        run = run.rename(away / "renamed")
    if how == "with its data inside":
        away.mkdir()
        run = run.rename(away / "renamed")
        data = data.rename(run / "data")
    return run, data


@pytest.mark.parametrize("how", ["not", "with its project", "alone", "with its data inside"])
def test_a_moved_run_finds_its_data(how: str, project: Path) -> None:
    run, data = moved(project, how)
    assert data_of(RunFolder.of(run)).resolve() == data


@pytest.mark.parametrize("how", ["not", "with its project"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_moved_run_works(command: str, how: str, project: Path) -> None:
    run, data = moved(project, how)
    assert main([command, str(run), *COMMANDS[command].split()]) == 0
    if command == "evaluate":
        loss = json.loads((run / "evaluation" / "loss.json").read_text())
        assert Path(loss["data"]).resolve() == data
    if command == "generate":
        sample = json.loads((run / "samples" / "generated.json").read_text())["samples"][0]
        assert sample["recited_frac"] is not None
    if command == "doctor":
        result = json.loads((run / "results" / "doctor.json").read_text())
        assert "vocabulary" not in result["skipped"]


@pytest.mark.parametrize("harm", ["gone", "changed"])
@pytest.mark.parametrize("command", COMMANDS)
def test_without_its_data_no_other_is_taken(
    command: str, harm: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = project / "runs" / "model"
    shutil.rmtree(project / "data")
    if harm == "changed":
        shutil.copytree(OLD / "data", project / "data")
    capsys.readouterr()
    status = main([command, str(run), *COMMANDS[command].split()])
    seen = capsys.readouterr()
    reason = "is not at" if harm == "gone" else "not the data that the run"
    if command in NEED_DATA:
        assert status == 1
        assert reason in seen.err
        assert f"Try: groundup {command} {run}" in seen.err
        assert "--data path/to/data" in seen.err
        return
    assert status == 0
    if command in ("generate", "doctor"):
        assert reason in seen.out


@pytest.mark.parametrize("inside", [".", "checkpoints", "checkpoints/step-000002", "README.md"])
def test_any_path_inside_a_run_means_the_run(
    inside: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = project / "runs" / "model"
    assert RunFolder.of(run / inside).path == run
    assert main(["evaluate", str(run / inside)]) == 0
    assert (run / "results" / "evaluate.json").is_file()
    if (run / inside).is_dir():
        monkeypatch.chdir(run / inside)
        assert RunFolder.of(".").path.resolve() == run
        assert main(["generate", ".", "--samples", "1", "--max-new-tokens", "2"]) == 0
        assert (run / "samples" / "generated.json").is_file()


def test_only_what_was_measured_as_the_run_was_trained_is_its_result(project: Path) -> None:
    run = project / "runs" / "model"
    recorded = (run / "results" / "evaluate.json", run / "evaluation" / "loss.json")
    shutil.copytree(project / "data", project / "more")
    for options in (
        f"--data {project / 'more'}",
        "--context-length 8",
        "--stride 7",
        "--documents isolated",
    ):
        assert main(["evaluate", str(run), *options.split()]) == 0
        assert not any(path.exists() for path in recorded)
    assert main(["evaluate", str(run), "--data", str(project / "data"), "--stride", "64"]) == 0
    assert all(path.is_file() for path in recorded)


def test_an_assistant_is_a_run_of_its_own_with_the_data_of_its_run(project: Path) -> None:
    run = project / "runs" / "model"
    assistant = RunFolder.of(run / "assistant" / "tokenizer" / "tokenizer.json")
    assert assistant.path == run / "assistant"
    assert data_of(assistant) == project / "data"
    assert main(["evaluate", str(run / "assistant")]) == 0
    assert (run / "assistant" / "evaluation" / "loss.json").is_file()
    # Beside other runs, too, and with the windows of its run.
    moved = (run / "assistant").rename(project / "runs" / "tuned")
    assert data_of(RunFolder(moved)) == project / "data"
    assert documents_of(RunFolder(moved)) == "stream"
    config = run / "config.toml"
    config.write_text(config.read_text().replace('"stream"', '"isolated"'))
    assert documents_of(RunFolder(moved)) == "isolated"


@pytest.mark.parametrize("command", ["generate", "export", "chat", "explain"])
def test_every_command_opens_the_same_checkpoint(
    command: str, project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The best is damaged: each falls back to the one before, and says so."""
    run = project / "runs" / "model"
    best = RunFolder(run).best()
    assert best is not None
    shutil.copytree(best, best.with_name("step-000001"))
    (best / "model.safetensors").write_bytes(b"")
    assert main([command, str(run), *COMMANDS[command].split()]) == 0
    if command != "chat":  # its assistant has weights of its own
        assert "step-000001 is tried instead" in caplog.text


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"instruct", "chat"}))
def test_a_run_of_version_0_1_works(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(OLD, tmp_path / "old")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = tmp_path / "old" / "run"
    assert main([command, str(run), *COMMANDS[command].split()]) == 0
    assert data_of(RunFolder(run)) == tmp_path / "old" / "data"
