"""A trained model is never lost: what fails after the training is a warning, or fails before it."""

import errno
import importlib
import math
import os
from pathlib import Path
from typing import Any

import pytest
from small_runs import assert_same_weights, make_data, settings

from groundup.base import extras
from groundup.base import metrics as base_metrics
from groundup.base.errors import UserError
from groundup.base.fields import replace_settings
from groundup.base.run import RunFolder
from groundup.cli.main import main
from groundup.evaluation.load import load
from groundup.pretraining import job, samples
from groundup.pretraining import pretrain as pretraining
from groundup.pretraining.pretrain import pretrain
from groundup.tokenizer.words import WordTokenizer
from groundup.train import trainer

DISK_FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
ERRORS = [
    DISK_FULL,
    ValueError("a value"),
    UserError("This cannot be done.", where="somewhere"),
    UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "no"),
    RuntimeError(),
]
AFTERWARDS = {
    "sample": (job, "write_sample", "sample of step 6"),
    "sample's file": (trainer, "write_text", "sample of step 12"),
    "generation": (samples, "generate", "sample of step 6"),
    "metrics": (pretraining, "read_metrics", "losses of the single steps"),
    "result": (pretraining, "record_result", "result of the run"),
    "figure": (pretraining, "write_text", "figure of the loss"),
    "README": (pretraining, "run_readme", "README of the run"),
}


def raising(error: BaseException) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("step", AFTERWARDS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_fails_beside_the_training_is_a_warning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    step: str,
    error: BaseException,
) -> None:
    owner, name, words = AFTERWARDS[step]
    monkeypatch.setattr(owner, name, raising(error))
    data = make_data(tmp_path / "data")
    with caplog.at_level("WARNING"):
        result = pretrain(settings(data, steps=12, curves=step == "figure"))
    assert words in caplog.text
    run = RunFolder(result.run)
    assert run.is_finished
    assert load(result.run).path.name == f"step-{result.best_step:06d}"
    assert (run.path / "README.md").exists() == (step != "README")
    assert (run.samples / "step-000012.txt").exists() == (step not in list(AFTERWARDS)[:3])
    assert math.isnan(result.first_loss_nats) == (step == "metrics")


def test_the_model_is_the_same_as_without_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data(tmp_path / "data")
    one = pretrain(settings(data, curves=False)).run
    monkeypatch.setattr(job, "write_sample", raising(DISK_FULL))
    two = pretrain(settings(data, curves=False, out=tmp_path / "two")).run
    assert_same_weights(one, two)


def test_a_terminal_that_cannot_show_a_sample_does_not_end_the_run(tmp_path: Path) -> None:
    def on_sample(step: int, text: str) -> None:
        "Ω".encode("ascii")

    run = pretrain(settings(make_data(tmp_path / "data"), curves=False), None, on_sample).run
    assert RunFolder(run).is_finished


def test_the_exit_code_of_such_a_run_is_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pretraining, "run_readme", raising(DISK_FULL))
    data = make_data(tmp_path / "data")
    words = ["--d-model", "16", "--n-layers", "1", "--n-heads", "2", "--context-length", "16"]
    words += ["--steps", "2", "--no-curves", "--threads", "1", "--out", str(tmp_path / "run")]
    assert main(["pretrain", str(data), *words]) == 0
    assert "best, at step" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["add_scalar", "close"])
def test_tensorboard_does_not_end_a_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    pytest.importorskip("tensorboard")
    writer = importlib.import_module("torch.utils.tensorboard.writer").SummaryWriter
    monkeypatch.setattr(writer, name, raising(DISK_FULL))
    data = make_data(tmp_path / "data")
    with caplog.at_level("WARNING"):
        run = pretrain(settings(data, tensorboard=True, curves=False)).run
    assert RunFolder(run).is_finished
    assert caplog.text.count("rest of the TensorBoard log") == 1


@pytest.mark.parametrize("at", [3, 8, 12])
def test_metrics_that_cannot_be_written_leave_a_run_that_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    data = make_data(tmp_path / "data")
    undisturbed = pretrain(settings(data, curves=False)).run
    real = base_metrics.append_metrics

    def append(path: Path, values: dict[str, Any]) -> None:
        if values["step"] == at:
            raise UserError("This cannot be written.", where=path)
        real(path, values)

    config = settings(data, curves=False, out=tmp_path / "other")
    with monkeypatch.context() as patch:
        patch.setattr("groundup.base.run.append_metrics", append)
        with pytest.raises(UserError, match="cannot be written"):
            pretrain(config)
    result = pretrain(config)
    assert result.resumed_from_step == {3: 0, 8: 5, 12: 10}[at]
    assert_same_weights(result.run, undisturbed)


def test_an_unwritable_manifest_at_the_end_is_written_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, data = RunFolder.write_manifest, make_data(tmp_path / "data")

    def write(run: RunFolder, extra: dict[str, Any]) -> None:
        if "finished_at" in extra:
            raise UserError("This cannot be written.", where=run.path)
        real(run, extra)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_manifest", write)
        with pytest.raises(UserError):
            pretrain(settings(data, curves=False))
    result = pretrain(settings(data, curves=False))
    assert (result.run, result.resumed_from_step) == (tmp_path / "run", 12)
    assert RunFolder(result.run).is_finished


def test_a_run_that_was_interrupted_while_it_wrote_its_results_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(make_data(tmp_path / "data"), curves=False)
    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "run_readme", raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            pretrain(config)
    result = pretrain(config)
    assert (result.run, result.resumed_from_step) == (config.out, 12)
    assert (result.run / "README.md").is_file()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": "Ω"}, "Ω"),
        ({"prompt": "a\udce9"}, "prompt"),
        ({"out": "data/tokenizer/ladder.json/run"}, "run folder cannot be created"),
        ({"device": "cuda"}, "device"),
    ],
    ids=str,
)
def test_what_would_fail_late_fails_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], words: str
) -> None:
    if changes.get("device") == "cuda" and importlib.import_module("torch").cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.chdir(tmp_path)
    data = make_data(Path("data"))
    changes = {k: Path(v) if k == "out" else v for k, v in changes.items()}
    before = set(tmp_path.rglob("*"))
    with pytest.raises(UserError) as caught:
        pretrain(settings(data, **changes))
    assert words in str(caught.value)
    assert set(tmp_path.rglob("*")) == before


def test_a_missing_tensorboard_is_named_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(module: str, *rest: object) -> None:
        raise ImportError(module)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    data = make_data(tmp_path / "data")
    with pytest.raises(UserError, match=r"-c constraints.txt -e '.\[tensorboard\]'"):
        pretrain(settings(data, tensorboard=True))
    assert not (tmp_path / "run").exists()


def test_a_prompt_without_tokens_is_refused(tmp_path: Path) -> None:
    tokenizer = WordTokenizer.from_text("the fox")
    assert samples.encode_prompt(tokenizer, "") == []
    with pytest.raises(UserError, match="no tokens"):
        samples.encode_prompt(tokenizer, "   ")


def test_a_prompt_longer_than_the_context_is_sampled_from(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    config = replace_settings(settings(data, curves=False), prompt="the quick brown fox " * 9)
    run = pretrain(config).run
    assert (run / "samples" / "step-000012.txt").read_text().startswith("the quick brown fox the")
