"""What is printed reaches any standard output, or is dropped with one sentence."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from groundup.cli.main import main
from groundup.cli.streams import guarded
from groundup.cli.verbs import VERBS

SHAPE = "--context-length 16 --d-model 8 --n-layers 1 --n-heads 1"
COMMANDS = {
    "prepare": "text.txt --out other",
    "verify": "",
    "train-tokenizer": "other --vocab-size 270",
    "encode": "",
    "tokens": "data --text naïve→⏎",
    "windows": "data --context-length 8",
    "ledger": "",
    "convert": "data/train --out t.bin",
    "plan": f"data --steps 2 --probe-s 0.1 {SHAPE}",
    "pretrain": f"data --steps 2 --sample-every 1 --prompt ⏎ --no-curves {SHAPE} -o runs/new",
    "doctor": "runs/model",
    "compare": "runs/first runs/model",
    "evaluate": "runs/model",
    "generate": "runs/model --samples 1 --max-new-tokens 4 --prompt naïve⏎✓",
    "import": "hf --out runs/copy",
    "export": "runs/model --out hf",
    "match": "runs/model --against runs/model",
    "audit": "pairs.jsonl",
    "classify": "runs/model --n-classes 2",
    "predict": "runs/model --text naïve⏎",
    "instruct": "runs/model --steps 1 --batch-size 2 --test-per-kind 1 --max-new-tokens 2",
    "prefer": "runs/model --records pairs.jsonl --steps 1 --batch-size 2 --max-new-tokens 2",
    "reinforce": "runs/model --steps 1 --batch-size 2 --least-start 0 --shots 0 --test-items 30 "
    "--test-samples 1 --max-new-tokens 2",
    "judge": "answers.jsonl answers.jsonl --url http://localhost:1 --model naïve⏎ --show",
    "chat": "runs/model --ask naïve⏎ --max-new-tokens 4",
    "serve": "runs/model --try 1",
    "explain": "runs/model --text naïve⏎✓",
    "report": "runs/model --text naïve⏎✓",
}
FIRST = {"train-tokenizer": "prepare text.txt --out other", "import": "export runs/model --out hf"}


def test_marks_for_what_an_encoding_lacks() -> None:
    assert "a⏎ ✓é…".encode("ascii", "groundup") == b"a$ +?."
    assert "a⏎ ✓é…".encode("cp1252", "groundup") == b"a$ +\xe9\x85"
    assert "\ud83d é".encode("utf-8", "groundup").decode() == "\N{REPLACEMENT CHARACTER} é"


def run(command: str) -> int:
    if command in FIRST:
        assert main(FIRST[command].split()) == 0
    return main([command, *COMMANDS[command].split()])


def test_all_commands_are_here() -> None:
    assert COMMANDS.keys() | {"story"} == {verb.name for verb in VERBS}


@pytest.mark.parametrize(
    ("command", "encoding"),
    # The one that has least; the others pass through the same error handler.
    [*((command, "ascii") for command in COMMANDS), ("windows", "cp1252"), ("chat", "cp1252")],
)
def test_a_terminal_that_lacks_characters(
    command: str, encoding: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding=encoding) for name in ("out", "err")}
    monkeypatch.setattr(sys, "stdout", streams["out"])
    monkeypatch.setattr(sys, "stderr", streams["err"])
    assert run(command) == 0
    printed = {}
    for name, stream in streams.items():
        stream.flush()
        printed[name] = stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert printed["out"].strip()
    if command == "windows":
        assert ("_" if encoding == "ascii" else "·") in printed["out"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_that_is_full(
    command: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/dev/full", "w") as full:
        stream, guard = guarded(full)
        monkeypatch.setattr(sys, "stdout", stream)
        assert run(command) == 0  # the work is done all the same
        stream.flush()
        assert guard.failure is not None


def test_names_and_texts_that_are_not_unicode(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (os.fsdecode(b"caf\xe9"), "sp ace", "über"):
        Path("runs/model").rename(f"runs/{name}")
        for command in ("evaluate", "doctor", "explain", "generate"):
            options = {"generate": ["--max-new-tokens", "2"], "explain": ["--text", "red\x1b[31m"]}
            assert main([command, f"runs/{name}", *options.get(command, [])]) == 0
        Path(f"runs/{name}").rename("runs/model")
        seen = capsys.readouterr().out
        assert "\x1b" not in seen
        assert name in seen or "caf\N{REPLACEMENT CHARACTER}" in seen
        assert main(["evaluate", f"runs/{name}"]) == 1
        assert "There is no run folder" in capsys.readouterr().err
    # Bytes of the command line that make UTF-8 are what they spell; others are replaced.
    for typed, meant in (
        (b"na\xc3\xafve", "naïve"),
        (b"na\xefve", "na\N{REPLACEMENT CHARACTER}ve"),
    ):
        text = typed.decode("ascii", "surrogateescape")
        assert main(["generate", "--prompt", text, "--max-new-tokens", "2"]) == 0
        assert meant in capsys.readouterr().out
        assert main(["tokens", "data", "--text", text]) == 0
        assert main(["chat", "--ask", text, "--max-new-tokens", "2"]) == 0


def test_a_text_for_a_person_holds_no_control_characters(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    red = "red\x1b[31m"
    Path("red.txt").write_text(f"{red} the end.\n\n" * 200)
    for line in (
        f"generate --max-new-tokens 2 --prompt {red}",
        f"tokens data --text {red}",
        "prepare red.txt --out other --no-audit",
        "train-tokenizer other --vocab-size 270",
        "windows other --context-length 8",
    ):
        assert main(line.split()) == 0
        assert "\x1b" not in capsys.readouterr().out, line


def test_windows_counts_targets_between_windows(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = []
    for stride in (8, 9):
        assert main(["windows", "--context-length", "8", "--stride", str(stride)]) == 0
        (row,) = re.findall(r"never trained: between windows +(.+)", capsys.readouterr().out)
        counts.append(int(row.replace(",", "")))
    assert counts[0] == 0
    assert counts[1] > 0


WHOLE = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
C_LOCALE = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
GROUNDUP = f"{sys.executable} -m groundup"


@pytest.mark.parametrize(
    ("line", "environment", "status", "error"),
    [
        ("{g} tokens data > /dev/full", {}, 1, "error: The output cannot be written (No space"),
        ("{g} --help > /dev/full", {}, 1, "error: The output cannot be written (No space"),
        ("{g} chat --ask hello --max-new-tokens 2 2> /dev/full", {}, 0, ""),
        ("{g} windows data --unknown 2> /dev/full", {}, 2, ""),
        ("{g} windows data >&-", {}, 0, ""),
        ("{g} tokens data 2>&-", {}, 0, ""),
        ("{g} tokens nothing >&- 2>&-", {}, 1, ""),
        ("{g} chat runs/model --max-new-tokens 2 <&-", {}, 0, ""),
        ("{g} windows data | head -1; exit ${{PIPESTATUS[0]}}", {}, 0, ""),
        ("{g} windows data", {"PYTHONIOENCODING": "latin-1"}, 0, ""),
        ("{g} windows data", C_LOCALE, 0, ""),
        (
            "printf 'na\\xc3\\xafve\\nna\\xef\\n' | {g} chat runs/model --max-new-tokens 2",
            {},
            0,
            "",
        ),
        ("printf 'na\\xc3\\xafve\\n' | {g} chat runs/model --max-new-tokens 2", C_LOCALE, 0, ""),
    ],
)
def test_a_process(
    line: str, environment: dict[str, str], status: int, error: str, project: Path
) -> None:
    done = subprocess.run(
        ["bash", "-c", line.format(g=GROUNDUP)],
        capture_output=True,
        text=True,
        errors="replace",
        env=WHOLE | environment,
        timeout=120,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr
    assert done.stderr.startswith(error)
    assert len(done.stderr.splitlines()) <= 1
