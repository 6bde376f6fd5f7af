"""Ctrl-C and SIGTERM at any moment end every command in one line, and it can be run again."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from killed import TESTS

from groundup.cli import main as command_line
from groundup.cli.main import main

SMALL = "--d-model 16 --n-layers 1 --n-heads 2 --context-length 16 --threads 1 --no-curves"
RUN_AGAIN = {
    "prepare": "text.txt --out other",
    "train-tokenizer": "data --vocab-size 300",
    "encode": "data",
    "windows": "data --context-length 8",
    "ledger": "data --context-length 8",
    "verify": "data",
    "plan": f"data --steps 20 --probe-s 0.2 {SMALL}",
    "pretrain": f"data --steps 40 --out runs/other --checkpoint-every 5 {SMALL}",
    "doctor": "runs/model",
    "evaluate": "runs/model",
    "generate": "runs/model --max-new-tokens 20",
    "export": "runs/model --out exported",
    "explain": "runs/model",
}
QUICK = ("train-tokenizer", "pretrain", "export")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interrupts") / "start"
    folder.mkdir()
    (folder / "text.txt").write_text("The quick brown fox jumps over the lazy dog. " * 400)
    here = Path.cwd()
    os.chdir(folder)
    try:
        for words in (
            "prepare text.txt --out data",
            "train-tokenizer data --vocab-size 300",
            f"pretrain data --out runs/model --steps 4 {SMALL}",
        ):
            assert main(words.split()) == 0
    finally:
        os.chdir(here)
    return folder


@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(verb, marks=[] if verb in QUICK else [pytest.mark.slow], id=verb)
        for verb in RUN_AGAIN
    ],
)
def test_a_command_ends_in_one_line_and_runs_again(verb: str, start: Path, tmp_path: Path) -> None:
    (tmp_path / "start").symlink_to(start)
    program = [sys.executable, str(TESTS / "interrupted_commands.py"), str(tmp_path), "1", "6"]
    paths = os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)])
    done = subprocess.run(
        [*program, verb, *RUN_AGAIN[verb].split()],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    done_statuses = {0, 1} if verb == "doctor" else {0}
    assert set(found["statuses"]) <= {130, *done_statuses}, found
    assert found["statuses"][-1] in done_statuses
    for status, screen in zip(found["statuses"], found["screens"], strict=True):
        assert "Traceback" not in screen, screen
        if status == 130:
            assert screen.count("Stopped.") == 1, screen
            assert screen.rstrip().endswith(f"groundup {verb} {RUN_AGAIN[verb]}"), screen
    assert 130 in found["statuses"], found["statuses"]
    left = sorted(str(path) for path in (tmp_path / "stopped").rglob("*.tmp"))
    assert left == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_a_command_has_ended_changes_nothing(
    number: signal.Signals, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(number)
    sent = []

    def print_rest(screen: object) -> None:
        os.kill(os.getpid(), number)
        sent.append(number)

    monkeypatch.chdir(start)
    monkeypatch.setattr(command_line._Screen, "print_rest", print_rest)
    for words, status in (("verify data", 0), ("verify missing", 1), ("verify --wrong", 2)):
        assert main(words.split()) == status
    assert sent == 3 * [number]
    assert signal.getsignal(number) is before


def test_a_second_interrupt_leaves_the_line_of_the_first(
    start: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def joined(words: list[str]) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        return " ".join(words)

    monkeypatch.chdir(start)
    monkeypatch.setattr(command_line, "call", interrupted)
    monkeypatch.setattr(command_line, "joined", joined)
    assert main(["verify", "data"]) == 130
    assert "Stopped. The same command starts again" in capsys.readouterr().err
