"""`groundup story` on a small text: every stage, Ctrl-C at any of them, and resuming."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from groundup.base.results import read_results
from groundup.chat.assistant import open_chat
from groundup.chat.config import ChatConfig
from groundup.pretraining.doctor import doctor
from groundup.story.model_choice import MAX_PASSES
from groundup.story.stages import STAGES
from groundup.text.builtin import python_reference
from groundup.train.curve_checks import OVERFITTING

# Where Ctrl-C met a dataclass in the making, CPython ends the process by the signal after all;
# a shell reads 130 from both.
STOPPED = (130, -signal.SIGINT)
COMMAND = [sys.executable, "-m", "groundup.cli.main", "story", "text.txt", "--train-time", "1.8s"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    text = "\n\n".join(document.text for document in python_reference())
    (tmp_path / "text.txt").write_text(text[:240_000], encoding="utf-8")
    return tmp_path


def finish(folder: Path, *more: str) -> str:
    done = subprocess.run([*COMMAND, *more], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def interrupt(folder: Path, stage: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Start the story and press Ctrl-C once the stage has begun."""
    process = subprocess.Popen(
        [*COMMAND, *more],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        # A suite that runs in the background ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if f"/{len(STAGES)}  {stage}" in line:
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(COMMAND, process.returncode, printed + out, err)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_whole_road_with_ctrl_c_at_four_of_its_stages(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name)  # minutes of training: on all cores
    screens = []
    for stage in ("train-tokenizer", "pretrain", "classify", "instruct"):
        stopped = interrupt(folder, stage)
        screens.append(stopped.stdout)
        assert stopped.returncode in STOPPED, stopped.stderr
        assert stopped.stderr.strip().splitlines() == [
            "Stopped. The same command resumes it: groundup story text.txt --train-time 1.8s"
        ]
    screen = finish(folder)
    check_screens([*screens, screen])
    run = folder / "runs" / "story"
    assert [path.name for path in (folder / "runs").iterdir()] == ["story"]
    assert "Resuming the unfinished story" in screen
    kept = {file.stem for file in run.rglob("results/*.json")}
    assert kept == {"ending", *(stage.verb for stage in STAGES)}
    assert read_results(run / "data")["plan"]["n_passes"] <= MAX_PASSES
    assert not [f for f in doctor(run).findings if f.rule == OVERFITTING]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Not run yet" not in page
    for file in ("README.md", "config.toml", "manifest.json", "metrics.jsonl", "log.txt"):
        assert (run / file).stat().st_size > 0
    exported = json.loads((run / "results" / "export.json").read_text())
    assert exported["max_logit_difference"] < 1e-4
    assistant = open_chat(ChatConfig(run=run))
    for question in ("Hello", "Who are you?"):
        answer = "".join(assistant.ask(question))
        assert "I am story, a language model with" in answer, answer
    # Told to its end, the same command begins another one.
    again = interrupt(folder, "windows")
    assert (folder / "runs" / "story-2").is_dir(), again.stdout


def check_screens(screens: list[str]) -> None:
    """No stage has more than 25 lines, and the only next command is the last line."""
    seen = set()
    for screen in screens:
        # Of the last stage, the result follows; it has a screen of its own.
        _, *parts = re.split(rf"(?m)^(\d+)/{len(STAGES)}  |^result ─", screen)
        for number, lines in zip(parts[::2], parts[1::2], strict=True):
            seen.add(number)
            assert len(lines.rstrip().splitlines()) <= 25, lines
            assert max(map(len, lines.splitlines())) <= 80, lines
            assert number is None or "next:" not in lines
    assert seen == {None, *(str(k + 1) for k in range(len(STAGES)))}
    assert screens[-1].rstrip().splitlines()[-1].startswith("next: groundup chat runs/story")
    assert sum(screen.count("next:") for screen in screens) == 1


def test_a_piped_text_goes_on_only_with_the_same_text(folder: Path) -> None:
    command = [*COMMAND[:4], "-", "--train-time", "0.6s", "--vocab-size", "12"]  # fails at stage 2
    text = (folder / "text.txt").read_text(encoding="utf-8")
    for piped in (text[:9000], text[:9000], text[:9500]):
        done = subprocess.run(command, cwd=folder, input=piped, capture_output=True, text=True)
        assert done.returncode == 1
        assert "--vocab-size" in done.stderr
    stories = sorted(path.name for path in (folder / "runs").iterdir())
    assert stories == ["story", "story-2"]
