"""What training made is saved first: no later step that fails, and no strange string, loses it."""

import errno
import importlib
import json
import logging
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from groundup.base.errors import UserError
from groundup.chat.assistant import find_assistant, open_chat
from groundup.chat.config import ChatConfig
from groundup.cli.main import main
from groundup.evaluation.load import load
from groundup.finetune.classify.classifier import load_classifier
from groundup.finetune.classify.classify import classify
from groundup.finetune.classify.config import ClassifyConfig
from groundup.finetune.instruct.config import InstructConfig
from groundup.finetune.instruct.instruct import instruct

CLASSIFY, INSTRUCT = "groundup.finetune.classify.classify", "groundup.finetune.instruct.instruct"
LATER = {
    CLASSIFY: [
        "predictions_of", "confident_mistakes", "baselines",
        "compare", "average", "scores_of", "write_json", "write_report", "readme",
        "RunFolder.write_config", "RunFolder.write_manifest", "RunFolder.write_readme",
        "confusion_matrix",
    ],
    INSTRUCT: [
        "answer_loss", "measure_after", "answers_page", "write_text", "write_json", "readme",
        "RunFolder.write_readme", "RunFolder.write_manifest",
    ],
}  # fmt: skip
ERRORS: list[Exception] = [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "surrogates not allowed"),
    ValueError("a wrong value"),
    RuntimeError("a wrong state"),
    UserError("A sentence."),
]


@pytest.fixture
def labels(run: Path) -> Path:
    file = run.parent / "animals.tsv"
    rows = [f"{animal}\tthe {animal} sat {i} times" for i in range(9) for animal in ("cat", "dog")]
    file.write_text("\n".join(rows))
    return file


@pytest.fixture
def records(run: Path) -> Path:
    file = run.parent / "records.json"
    rows = [{"instruction": f"say {c * 3}", "output": "the cat"} for c in "abcdefghi"]
    file.write_text(json.dumps(rows))
    return file


@pytest.fixture
def job(
    request: pytest.FixtureRequest, run: Path, labels: Path, records: Path
) -> Callable[[], Any]:
    if request.param == CLASSIFY:
        config = ClassifyConfig(run=run, labels=labels, split="random", threads=1)
        return lambda: classify(config)
    tuning = InstructConfig(
        run=run, records=records, steps=2, batch_size=2, max_new_tokens=3, threads=1
    )
    return lambda: instruct(tuning)


def faults() -> Iterator[tuple[str, str, Exception]]:
    errors = cycle(ERRORS)
    for module, names in LATER.items():
        for name in names:
            yield module, name, next(errors)


def is_saved(run: Path) -> bool:
    return any(
        (run / name).is_file() for name in ("classifier/labels.json", "assistant/model.json")
    )


@pytest.mark.parametrize(("job", "name", "error"), list(faults()), indirect=["job"])
def test_a_later_step_that_fails_is_a_warning(
    job: Callable[[], Any],
    name: str,
    error: Exception,
    run: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = request.node.callspec.params["job"]
    owner, _, attribute = name.rpartition(".")
    holder: Any = importlib.import_module(module)
    holder = getattr(holder, owner) if owner else holder
    original = getattr(holder, attribute)

    def failing(*args: Any, **kwargs: Any) -> Any:
        if is_saved(run) and not (name == "write_json" and not (run / _mark(module)).exists()):
            raise error
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(f"{module}.{name}", failing)
        result = job()
    assert len(result.warnings) >= 1
    assert str(result.folder) in result.warnings[0]
    if module == CLASSIFY:
        assert load_classifier(result.folder).predict(["the cat"])[0] in ("cat", "dog")
    else:
        assert load(result.folder).model.config.context_length == 24
        assert find_assistant(run) == result.folder
        list(open_chat(ChatConfig(run=run)).ask("say 1"))


def _mark(module: str) -> str:
    return "classifier/labels.json" if module == CLASSIFY else "assistant/assistant.json"


@pytest.mark.parametrize("job", [CLASSIFY, INSTRUCT], indirect=True)
def test_ctrl_c_after_training_says_where_the_model_is(
    job: Callable[[], Any],
    run: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def interrupted(*ignored: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"{request.node.callspec.params['job']}.readme", interrupted)
    with pytest.raises(KeyboardInterrupt), caplog.at_level(logging.WARNING):
        job()
    assert f"The model is saved in {run}" in caplog.text


@pytest.mark.parametrize("job", [CLASSIFY], indirect=True)
def test_a_run_that_cannot_be_written_any_more_is_saved_elsewhere(
    job: Callable[[], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(path: Path) -> None:
        raise UserError("The run folder cannot be created (No space left on device).")

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))
    monkeypatch.setattr("groundup.finetune.outcome.RunFolder.create", refuse)
    result = job()
    assert result.folder.parent == tmp_path / "elsewhere"
    assert f"The model is saved in {result.folder} instead" in caplog.text
    assert load(result.folder).model.config.context_length == 24


def commands(run: Path, labels: Path, records: Path) -> list[list[str]]:
    usual = ["--steps", "1", "--batch-size", "2", "--threads", "1"]
    return [
        ["classify", str(run), "--labels", str(labels), "--split", "random", "--threads", "1"],
        ["instruct", str(run), "--records", str(records), *usual],
    ]


def test_a_read_only_run_is_refused_before_training_and_the_printed_command_works(
    run: Path,
    labels: Path,
    records: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    original = os.open

    def refuse(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR) and Path(path).is_relative_to(run):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return original(path, flags, *args, **kwargs)

    monkeypatch.setattr("os.open", refuse)
    monkeypatch.setattr("groundup.cli.verbs.VERBS", _unrecorded())
    for words in commands(run, labels, records):
        assert main(words) == 1
        screen = capsys.readouterr()
        assert "%" not in screen.out, "no training"
        assert "Read-only file system" in screen.err
        command = shlex.split(screen.err.rpartition("Try: ")[2])
        assert command[0] == "groundup"
        assert main(command[1:]) == 0
        capsys.readouterr()
    assert load_classifier(tmp_path / "classifier").names == ("cat", "dog")
    assert load(str(tmp_path / "assistant")).path == tmp_path / "assistant"


def _unrecorded() -> list[Any]:
    """The commands, without the record of their results in the run, which is read-only here."""
    from dataclasses import replace

    from groundup.cli.verbs import VERBS

    return [replace(verb, home=None) for verb in VERBS]


def test_a_full_disk_is_found_before_training(
    run: Path, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(run)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"The model takes .* MB, and the disk has 0.0 MB free"):
        classify(
            ClassifyConfig(run=run, labels=labels, split="random"),
            on_tokens=lambda done, total: pytest.fail(str(total)),
        )


def test_file_names_and_prompts_that_are_no_utf8_end_nothing(
    run: Path, labels: Path, records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = labels.rename(labels.with_name(os.fsdecode(b"caf\xe9.tsv")))
    records = records.rename(records.with_name(os.fsdecode(b"caf\xe9.json")))
    for words in commands(run, labels, records):
        assert main(words) == 0, capsys.readouterr().err
    assert "Labels: caf\N{REPLACEMENT CHARACTER}.tsv." in capsys.readouterr().out
    prompt = os.fsdecode(b"the caf\xe9")
    assert main(["generate", str(run), f"--prompt={prompt}", "--max-new-tokens", "3"]) == 0
    kept = json.loads((run / "samples" / "generated.json").read_text())["prompt"]
    assert kept.startswith("the caf")
    assert main(["chat", str(run), f"--ask={prompt}"]) == 0


def test_a_screen_that_takes_no_text_does_not_hide_the_model(
    run: Path, labels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def table(*ignored: object) -> None:
        raise UnicodeEncodeError("cp1252", "\u2713", 0, 1, "no such character")

    monkeypatch.setattr("groundup.cli.classify_view.table", table)
    assert main(commands(run, labels, labels)[0]) == 0
    assert f"The model is saved in {run}/classifier." in capsys.readouterr().err
