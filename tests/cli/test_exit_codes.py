"""0: done; 1: the command failed; 2: the command line is wrong; 130: interrupted."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from groundup.base.kinds import Pattern
from groundup.cli.main import main
from groundup.cli.options import options_of
from groundup.cli.verbs import VERBS, Verb

PRETRAIN = next(verb for verb in VERBS if verb.name == "pretrain")
by_name = pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def status(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(list(words))
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return code, error


@pytest.mark.parametrize(
    ("verb", "is_complete"),
    [
        *(pytest.param(verb, False, id=verb.name) for verb in VERBS),
        pytest.param(PRETRAIN, True, id="pretrain-complete", marks=pytest.mark.slow),
    ],
)
def test_usage(
    verb: Verb, is_complete: bool, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown option, a missing value, and options that are out of range: one of each kind."""
    assert status(capsys, verb.name, "--zzzzz", "3")[0] == 2
    wrong: list[list[str]] = []
    options = list(options_of(verb.config_class()).values())
    if not is_complete:
        options = list({repr(option.kind): option for option in options}.values())
    for leaf in options:
        option = f"--{leaf.name.replace('_', '-')}"
        kind = leaf.kind
        if kind.type in (int, float):
            wrong += [[option, "many"], [option]]
            off = {"at least": -1, "above": 0, "at most": 1, "below": 0}
            wrong += [[f"{option}={bound + off[words]}"] for words, bound in kind.bounds]
        if kind.type is int:
            wrong += [[option, "99999999999999999999"], [option, "1.5"]]
            wrong += [[f"{option}=-99999999999999999999"]]
        if kind.type is float:
            wrong += [[option, "nan"]]
        if kind.choices or kind.find(Pattern):
            wrong += [[f"{option}="] if leaf.name == "separator" else [option, "gpu"]]
        if kind.type is bool:
            wrong += [[f"{option}=perhaps"]]
    for words in wrong:
        code, error = status(capsys, verb.name, *words)
        assert code == 2, words
        name = words[0].partition("=")[0].removeprefix("--")
        assert name in error or name.replace("-", "_") in error
    assert list(empty.iterdir()) == []


@by_name
def test_failure(verb: Verb, empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    takes_two = verb.positional in ("runs", "answers")
    words = ["no such a", "no such b"] if takes_two else ["no such file"]
    assert status(capsys, verb.name, *words)[0] == (2 if verb.name == "judge" else 1)


@pytest.fixture
def _default_sigint() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@by_name
@pytest.mark.usefixtures("_default_sigint")
def test_interrupt(
    verb: Verb, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _number in range(10**6):
            pass

    monkeypatch.setattr("groundup.cli.main.call", interrupted)
    monkeypatch.setattr("groundup.cli.places.refuse_unwritable", lambda *_: None)  # no run is here
    code, error = status(capsys, verb.name)
    assert code == 130
    assert f"groundup {verb.name}" in error


@pytest.mark.parametrize(
    "words",
    [
        "explain --layer 9",
        "explain --head 5",
        "compare",
        "compare runs/model",
        "compare runs/model runs/model",
        "convert --to-format store",
        "chat --ask=",
        "chat --ask hello --max-new-tokens 0",
        "tokens --text=",
        "evaluate --device cuda:99",
        "generate --device mps",
        "chat --device gpu --ask hello",
        "pretrain --device metal",
        "pretrain --threads 999999",
    ],
)
def test_arguments_that_are_wrong_whatever_the_files_contain(
    words: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = status(capsys, *words.split())
    assert code == 2, error


def test_doctor_fails_where_a_rule_fails(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = next(Path("runs/model/checkpoints").glob("step-*/model.safetensors"))
    weights.write_bytes(b"")
    assert main(["doctor"]) == 1
    assert "FAIL" in capsys.readouterr().out


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_any_seed_below_2_to_the_63(
    seed: int, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = "pretrain --steps 2 --sample-every 1 --sample-tokens 2 --batch-size 2 --no-curves"
    shape = "--context-length 16 --d-model 8 --n-layers 1 --n-heads 1 --dropout 0.1"
    for words in (
        f"generate --samples 2 --max-new-tokens 2 --seed {seed}",
        f"chat runs/model/assistant --ask hello --max-new-tokens 2 --temperature 1 --seed {seed}",
        f"windows --seed {seed}",
        f"prepare text.txt --out other --no-audit --seed {seed}",
        f"{train} {shape} --out runs/seed --seed {seed}",
    ):
        assert status(capsys, *words.split()) == (0, ""), words
    for name, more in (
        ("classify", "--n-classes 2"),
        ("instruct", "--test-per-kind 1 --steps 1 --batch-size 2"),
    ):
        options = f"{more} --seed {seed}".split()
        assert status(capsys, name, "runs/model", *options)[0] == 0
