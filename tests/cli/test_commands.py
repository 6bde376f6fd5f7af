"""Every command that is printed or written can be typed as it stands, be there spaces in a name."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from groundup.cli import console
from groundup.cli.main import main

WORDS = "Sing, O goddess, the anger of Achilles son of Peleus. " * 200
SHAPE = "--context-length 32 --d-model 32 --n-layers 1 --n-heads 2".split()  # noqa: SIM905


def next_words(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """Run a verb; give the words of its last line."""
    # The doctor finds that this text repeats itself.
    assert main(list(arguments)) == int(arguments[0] == "doctor")
    return shlex.split(capsys.readouterr().out.strip().splitlines()[-1].removeprefix("next: "))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "a place").mkdir()
    monkeypatch.chdir(tmp_path / "a place")
    Path("words.txt").write_text(WORDS)
    return Path()


def test_what_comes_next_can_be_typed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def then(*arguments: str) -> list[str]:
        return next_words(capsys, *arguments)

    assert then("prepare", "words.txt", "-o", "my data")[1:] == ["train-tokenizer", "my data"]
    assert then("train-tokenizer", "my data", "--vocab-size", "270")[1:] == ["windows", "my data"]
    assert then("tokens", "my data")[1:] == ["windows", "my data"]
    assert then("tokens", "my data/tokenizer")[1:] == ["windows", "my data"]
    assert then("verify", "my data")[1:] == ["windows", "my data"]
    assert then("verify", "my data/train")[1:] == ["ledger", "my data/train"]
    assert then("windows", "my data", "--context-length", "32")[1:] == ["plan", "my data"]
    assert then("ledger", "my data", "--context-length", "32", "--stride", "16")[1:] == [
        "plan",
        "my data",
    ]
    assert then("ledger", "my data/train", "--context-length", "32")[1:] == ["plan", "my data"]
    Path("alone").symlink_to("my data/train")
    assert main(["ledger", "alone", "--context-length", "32"]) == 0
    assert "next:" not in capsys.readouterr().out
    train = ["pretrain", "my data", "--steps", "2", *SHAPE, "--sample-every", "0", "-o"]
    assert then(*train, "my run")[1:] == ["evaluate", "my run"]
    assert then(*train, "another run")[1:] == ["evaluate", "another run"]
    for place in ("my run", "my run/tokenizer"):
        assert then("tokens", place)[1:] == ["generate", "my run"]
    assert then("doctor", "my run")[1:] == ["evaluate", "my run"]
    assert then("compare", "my run", "another run")[2] in ("my run", "another run")
    assert then("evaluate", "my run")[1:] == ["generate", "my run"]
    assert then("generate", "my run", "--samples", "1")[1:] == ["export", "my run"]
    readme = (folder / "my run" / "README.md").read_text()
    for line in re.findall(r"^    (groundup .*)$", readme, re.M):
        assert any(word.startswith("my run") for word in shlex.split(line)), line
    assert "`groundup plan --config 'my run/config.toml'`" in readme
    shutil.copytree("my data", "my run/data")  # as a story has it
    assert then("tokens", "my run/data")[1:] == ["windows", "my run/data"]


def test_no_next_command_opens_what_cannot_be_opened(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in ("prepare words.txt", "train-tokenizer --kind characters"):
        assert main(line.split()) == 0
    assert main(["pretrain", "--steps", "2", *SHAPE, "--sample-every", "0"]) == 0
    for checkpoint in Path("runs/pretrain/checkpoints").glob("step-*"):
        (checkpoint / "model.safetensors").write_bytes(b"")
    capsys.readouterr()
    assert main(["doctor"]) == 1
    assert "next:" not in capsys.readouterr().out


def test_what_goes_on_after_ctrl_c_can_be_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*ignored: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("groundup.cli.main._parse", stopped)
    typed = ["pretrain", "my data", "-o", "my run"]
    assert main(typed) == 130
    command = capsys.readouterr().err.strip().rpartition("resumes it: ")[2]
    assert shlex.split(command) == ["groundup", *typed]


def test_the_typed_command_is_kept_with_the_current_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["pretrain", "my data", "--n-micro-batches", "9", "--recompute"]) == 2
    assert console.typed[-3:] == ["--grad-accumulation-steps", "9", "--activation-checkpointing"]
    command = capsys.readouterr().err.strip().rpartition("Try: ")[2]
    assert shlex.split(command) == [
        *["groundup", "pretrain", "my data", "--activation-checkpointing"],
        *["--grad-accumulation-steps", "8"],
    ]
