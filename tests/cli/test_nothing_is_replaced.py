"""Files of the user are not replaced, and what is no folder name is refused before the work."""

import shlex
import shutil
from pathlib import Path

import pytest

import groundup
from groundup.cli.main import main
from groundup.evaluation.export import export
from groundup.finetune.classify.classify import classify
from groundup.weights.config import ExportConfig


def test_a_page_replaces_only_a_page(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.txt").write_text("my own text")
    assert main(["windows", "--page", "mine.txt"]) == 1
    assert "groundup did not write" in capsys.readouterr().err
    assert Path("mine.txt").read_text() == "my own text"
    for _ in range(2):
        assert main(["windows", "--page", "page.html"]) == 0


def test_an_export_replaces_only_an_export(project: Path) -> None:
    Path("hf").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        Path(f"hf/{name}").write_text("{}")
    with pytest.raises(groundup.UserError, match="a model that groundup did not export"):
        export(ExportConfig(run=Path("runs/model"), out=Path("hf")))
    assert Path("hf/model.safetensors").read_text() == "{}"
    for _ in range(2):
        export(ExportConfig(run=Path("runs/model"), out=Path("own")))


@pytest.mark.parametrize("out", [".", "..", "/", "a/.."])
def test_no_name_for_a_new_folder(
    out: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("classify runs/model", "instruct runs/model", "pretrain data"):
        steps = [] if command.startswith("classify") else ["--steps", "1"]
        assert main([*command.split(), *steps, "--out", out]) == 1
        assert "no name for a new folder" in capsys.readouterr().err
    with pytest.raises(groundup.UserError, match="no name for a new folder"):
        classify("runs/model", out=out)


def test_a_file_where_a_data_folder_belongs(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.txt").write_text("my own text")
    for command in ("train-tokenizer", "pretrain", "windows", "encode"):
        assert main([command, "mine.txt"]) == 1
        error = capsys.readouterr().err
        assert "This is a file, not a data folder." in error
        assert "groundup prepare mine.txt --out data-2" in error


def test_the_tokenizer_of_a_data_folder_or_a_run(project: Path) -> None:
    for folder in ("data", "runs/model"):
        tokenizer = groundup.load_tokenizer(folder)
        assert tokenizer.fingerprint == groundup.load_tokenizer(f"{folder}/tokenizer").fingerprint


def test_a_vocabulary_that_is_too_small_is_said_first(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train-tokenizer", "--vocab-size", "100"]) == 1
    assert "cannot contain 256 bytes" in capsys.readouterr().err


def test_data_of_another_tokenizer_is_encoded_again(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train-tokenizer", "--vocab-size", "310", "--overwrite"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "runs/model", "--data", "data"]) == 1
    folder, copy, encode = capsys.readouterr().err.strip().rpartition("Try: ")[2].split(" && ")
    assert (folder, copy) == ("mkdir data-2", "cp -r data/corpus data-2")
    shutil.copytree("data/corpus", "data-2/corpus")
    assert main(shlex.split(encode)[1:]) == 0
    assert main(["evaluate", "runs/model", "--data", "data-2"]) == 0
