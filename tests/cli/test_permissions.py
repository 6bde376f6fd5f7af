"""Folders that cannot be written to, and files that cannot be read: results come first."""

import os
import shlex
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from groundup.cli.main import main

NOBODY = 65534
SHAPE = "--context-length 16 --d-model 8 --n-layers 1 --n-heads 1"
READERS = {
    "evaluate": "bits/byte",
    "generate --samples 1 --max-new-tokens 3": "Copied from the training text",
    "doctor": "intact checkpoints",
    "explain": "Most likely next tokens",
    "compare runs/first runs/model": "Results",
    "chat --ask hello --max-new-tokens 2": "",
    "verify": "all checksums match",
    "tokens": "tokens",
    "windows": "One epoch",
    "ledger": "One epoch",
    f"plan data --steps 2 --probe-s 0.1 {SHAPE}": "Estimated cost",
}
WRITERS = {
    "prepare text.txt --out other": "--out",
    "train-tokenizer --vocab-size 270": "data",
    "encode": "data",
    "convert data/train --out t.bin": "--out",
    f"pretrain data --steps 1 --no-curves {SHAPE} --sample-every 0 --seed 5": "--out",
    "export": "--out",
    "report": "runs/model",
    "classify --n-classes 2": "runs/model",
    "instruct --steps 1 --batch-size 2 --test-per-kind 1 --max-new-tokens 2": "runs/model",
}


@contextmanager
def without_privileges() -> Iterator[None]:
    """Root may write everywhere: become nobody until the end of the block."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def read_only(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The small project where nobody may write; the folder of pytest is closed to others."""
    outer = Path(tempfile.mkdtemp())
    outer.chmod(0o755)
    home = outer / "home"
    home.mkdir()
    home.chmod(0o777)
    closed = outer / "project"
    shutil.copytree(project, closed)
    for manifest in closed.glob("runs/*/manifest.json"):
        manifest.write_text(manifest.read_text().replace(str(project), str(closed)))
    monkeypatch.chdir(closed)
    monkeypatch.setenv("HOME", str(home))
    change_modes(closed, remove=0o222)
    yield closed
    change_modes(closed, add=stat.S_IWUSR)
    shutil.rmtree(outer)


def change_modes(folder: Path, *, add: int = 0, remove: int = 0) -> None:
    for path in (*folder.rglob("*"), folder):
        path.chmod(path.stat().st_mode & ~remove | add)


@pytest.mark.parametrize("command", READERS)
def test_a_reader_prints_its_result_though_nothing_can_be_written(
    command: str,
    read_only: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = sorted(read_only.rglob("*"))
    main(command.split())  # as the user who may: all modules are imported now
    for path in set(read_only.rglob("*")) - set(before):
        path.unlink() if path.is_file() else None
    capsys.readouterr()
    caplog.clear()
    with without_privileges():
        status = main(command.split())
    seen = capsys.readouterr()
    assert (status, "Traceback" in seen.err) == (0, False), seen.err
    assert READERS[command] in seen.out
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert all(warning.startswith("The result was not saved. ") for warning in warnings)
    if not command.startswith(("chat", "verify", "tokens")):
        assert "(Permission denied)" in warnings[-1]


@pytest.mark.parametrize("command", WRITERS)
def test_a_writer_refuses_at_once_with_a_command_that_works(
    command: str,
    read_only: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = {path: path.stat().st_mtime_ns for path in read_only.rglob("*")}

    def started(*_: object, **__: object) -> None:
        raise AssertionError("the work has begun")

    with monkeypatch.context() as patch, without_privileges():
        patch.setattr("groundup.cli.main.call", started)
        assert main(command.split()) == 1
    line = capsys.readouterr().err
    assert "Permission denied" in line
    assert WRITERS[command] in line
    commands = [shlex.split(part) for part in line.strip().rpartition("Try: ")[2].split("&&")]
    *copies, last = commands
    with without_privileges():
        for words in copies:  # mkdir FOLDER, cp -r FROM TO
            if words[0] == "mkdir":
                Path(words[1]).mkdir()
                continue
            if words[0] == "chmod":  # the copy has the modes of its original
                assert words[:3] == ["chmod", "-R", "u+w"]
                change_modes(Path(words[3]), add=stat.S_IWUSR)
                continue
            assert words[:2] == ["cp", "-r"]
            goal = Path(words[3])
            goal = goal / Path(words[2]).name if goal.exists() else goal
            shutil.copytree(words[2], goal, copy_function=shutil.copyfile)
            change_modes(goal, add=stat.S_IWUSR)
    assert main(last[1:]) == 0
    # As root, the last command could record its result.
    before = {
        p: time_ns for p, time_ns in before.items() if "results" not in (p.name, p.parent.name)
    }
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("evaluate", "runs/model/checkpoints/step-*/model.safetensors"),
        ("generate", "runs/model/checkpoints/step-*/model.json"),
        ("explain", "runs/model/tokenizer/tokenizer.json"),
        ("doctor", "runs/model/config.toml"),
        ("compare runs/first runs/model", "runs/model/metrics.jsonl"),
        ("chat --ask hello", "runs/model/assistant/model.safetensors"),
        ("windows", "data/train/tokens-00000.bin"),
        ("ledger", "data/train/manifest.json"),
        ("verify", "data/corpus/train.jsonl"),
        ("tokens", "data/tokenizer/tokenizer.json"),
        ("encode", "data/corpus/manifest.json"),
        ("pretrain data --config r.toml", "r.toml"),
        ("prepare text.txt", "text.txt"),
    ],
)
def test_a_file_that_may_not_be_read_is_named(
    command: str, file: str, read_only: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (read_only / "r.toml").write_text("") if os.geteuid() == 0 else None
    main([*command.split(), "--help"])
    (path,) = Path().glob(file) if "*" in file else [Path(file)]
    if not path.exists():
        pytest.skip("root writes it")
    path.chmod(0)
    capsys.readouterr()
    if command == "encode":
        change_modes(read_only / "data", add=0o222)
        path.chmod(0)
    if command.startswith(("prepare", "pretrain")):
        command += f" --out {read_only.parent / 'home' / 'new'}"
    with without_privileges():
        status = main(command.split())
    seen = capsys.readouterr()
    assert (status in (1, 2), "Traceback" in seen.err) == (True, False)
    assert str(path) in seen.err
    assert "Permission denied" in seen.err


def test_prepare_writes_into_a_folder_whose_parent_is_closed(
    read_only: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The root of a container, with a volume at /volume, is such a parent."""
    out = read_only / "runs"  # any folder with no data in it
    for content in out.iterdir():
        shutil.rmtree(content)
    out.chmod(0o777)
    main(["prepare", "--help"])
    with without_privileges():
        assert main(["prepare", "text.txt", "--out", str(out)]) == 0
        assert main(["pretrain", "data", "--out", str(out)]) == 1
    assert "Permission denied" in capsys.readouterr().err


def test_the_run_that_is_checked_is_the_one_that_is_taken(
    read_only: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = Path(shutil.copytree("runs/first", "runs/newer"))  # it has no assistant
    (newer / "manifest.json").chmod(0o666)
    (newer / "manifest.json").write_text('{"finished_at": "2099-01-01"}')
    change_modes(newer, remove=0o222)
    capsys.readouterr()
    with without_privileges():
        assert main(["prefer", "--records", "pairs.jsonl"]) == 1
    assert capsys.readouterr().err.startswith("error: runs/model/preferred: ")
