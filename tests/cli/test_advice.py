"""The advice of the command line, followed to the letter, ends well and changes nothing."""

import hashlib
import shlex
import shutil
from pathlib import Path

import pytest

from groundup.cli import console
from groundup.cli.main import main

SHAPE = "--context-length 16 --d-model 8 --n-layers 1 --n-heads 1"
QUICK = f"--steps 1 --batch-size 2 --sample-every 0 --no-curves {SHAPE}"
_MOST_STEPS = 4
_TRAINS = "groundup story"
"""It takes minutes, and it is the end of the advice."""


def content(folder: Path) -> dict[Path, str]:
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and "results" not in path.parts
    }


def follow(start: str) -> list[str]:
    """Run a command, then what it says to type, until one succeeds; then the first one again.

    No file that was there before may change, and no command may come twice.
    """
    before, done = content(Path()), [start]
    while len(done) <= _MOST_STEPS:
        console.suggested.clear()
        if done[-1].startswith(_TRAINS) or run(done[-1]):
            break
        assert console.suggested, f"nothing to type after {done}"
        following = console.suggested[-1]
        assert following not in done, f"{done} lead in a circle"
        done.append(following)
    else:
        raise AssertionError(f"no end: {done}")
    after = content(Path())
    assert {path: after.get(path) for path in before} == before, done
    return done


def run(command: str) -> bool:
    for part in command.split(" && "):
        words = shlex.split(part)
        if words[:2] == ["cp", "-r"]:
            shutil.copytree(words[2], words[3])
        elif words[0] != "groundup" or main(words[1:]) != 0:
            return False
    return True


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


NOTHING = [
    *(
        "evaluate",
        "generate",
        "doctor",
        "export",
        "classify",
        "predict",
        "instruct",
        "chat",
        "explain",
    ),
    *("compare", "compare a b", "evaluate runs/x"),
]
NO_DATA = ["pretrain", "plan", "windows", "ledger", "encode", "train-tokenizer", "verify"]


@pytest.mark.parametrize("start", NOTHING)
def test_from_an_empty_folder(start: str, empty: Path) -> None:
    assert follow(f"groundup {start}")[-1].startswith(_TRAINS)


@pytest.mark.parametrize("start", NO_DATA)
def test_without_data(start: str, empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.txt").write_text("my own text")
    # In place of all of Shakespeare, which takes seconds to prepare.
    monkeypatch.setattr("groundup.text.prepare.default_text", lambda: "python-reference")
    assert follow(f"groundup {start}")[-1] == "groundup prepare --out data"


@pytest.mark.parametrize("command", NO_DATA)
def test_raw_texts(command: str, project: Path) -> None:
    Path("my docs").mkdir()
    shutil.copy("text.txt", "my docs/a text.txt")
    assert follow(f"groundup {command} 'my docs'")[1:] == [
        "groundup prepare 'my docs' --out data-2"
    ]


@pytest.mark.parametrize("missing", ["tokenizer", "train", "validation"])
@pytest.mark.parametrize("command", [f"pretrain data {QUICK}", "windows", "ledger data"])
def test_data_that_is_incomplete(command: str, missing: str, project: Path) -> None:
    shutil.rmtree(f"data/{missing}")
    if missing == "tokenizer":
        shutil.rmtree("data/train")
        shutil.rmtree("data/validation")
    follow(f"groundup {command}")


@pytest.mark.parametrize(
    "start",
    [
        "evaluate data",
        "evaluate data/train",
        "generate run/model --samples 1 --max-new-tokens 2",
        "explain text.txt",
        pytest.param("chat runs/first --ask hello", marks=pytest.mark.long),  # trains an assistant
        "chat data --ask hello",
        "doctor data",
        "export data --out hf",
        "windows runs/model",
        "ledger runs/model",
        "verify runs/model",
        f"pretrain runs/model {QUICK}",
        f"plan data/corpus --probe-s 0.1 {QUICK}",
        "convert data --out t.bin",
        "windows --context-length 999999",
        f"plan --probe-s 0.1 {QUICK} --context-length 999999",
        "explain --layer 7",
        "evaluate --stride 4096",
        "compare runs/model",
        "compare runs/first runs/model --out text.txt",
        "export runs/model --out data",
        "evaluate --device mps",
        "tokens --text=",
    ],
)
def test_from_a_wrong_start(start: str, project: Path) -> None:
    done = follow(f"groundup {start}")
    assert len(done) > 1
