"""`doctor` and `compare` on runs of fine-tuning commands."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from finetune_jobs import config_of, make_job, train
from safetensors.torch import load_file, save_file

from groundup.alignment.prefer.config import PreferConfig
from groundup.base.errors import UserError
from groundup.base.fields import replace_settings
from groundup.base.files import sha256_file
from groundup.base.run import RunFolder
from groundup.cli.main import main
from groundup.finetune.classify.config import ClassifyConfig
from groundup.pretraining.compare import compare
from groundup.pretraining.doctor import doctor
from groundup.train.checkpoint import find_latest
from groundup.train.checkpoint_state import verify_checkpoint, write_state
from groundup.train.curve_checks import CHECKPOINTS, FIRST_LOSS, OVERFITTING, WEIGHTS


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    return train(folder / "assistant", make_job("lora"))[0].path


def test_a_sound_run_has_no_findings(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = doctor(run)
    assert result.findings == ()
    assert (result.n_steps_done, result.is_fine_tuning) == (12, True)
    assert {WEIGHTS, CHECKPOINTS, OVERFITTING} <= set(result.passed) | set(result.skipped)
    assert {WEIGHTS, CHECKPOINTS} <= set(result.passed)
    assert result.skipped[FIRST_LOSS] == "the model was trained before"
    assert result.skipped["validation leak"] == "only for token stores"
    assert main(["doctor", str(run)]) == 0
    assert "next:" not in capsys.readouterr().out


def test_damage_is_found_and_the_command_that_trains_again_is_named(tmp_path: Path) -> None:
    run, _ = train(tmp_path / "assistant", make_job("unvalidated"))
    for checkpoint in run.checkpoints():
        (checkpoint / "optimizer.safetensors").unlink()
    found = doctor(run.path).findings
    assert {finding.rule for finding in found} == {CHECKPOINTS}
    assert "groundup finetune --config" in found[0].fix or "groundup instruct" in found[0].fix


def test_weights_that_are_not_finite_are_found(tmp_path: Path) -> None:
    run, _ = train(tmp_path / "assistant", make_job("lora"))
    latest = find_latest(run.checkpoints_path)
    assert latest is not None
    tensors = load_file(latest / "trained.safetensors")
    name = min(tensors)
    tensors[name][0, 0] = float("nan")
    progress = verify_checkpoint(latest)
    save_file(tensors, latest / "trained.safetensors")
    assert {finding.rule for finding in doctor(run.path).findings} == {CHECKPOINTS}
    checksums = {file.name: sha256_file(file) for file in latest.glob("*.safetensors")}
    write_state(latest, progress, checksums)
    found = doctor(run.path).findings
    assert [finding.rule for finding in found] == [WEIGHTS]
    assert name in found[0].message


def test_a_run_without_steps(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "assistant")
    run.write_config(config_of("full"))
    result = doctor(run.path)
    assert result.findings == ()
    assert result.skipped[WEIGHTS] == "there is no checkpoint yet"


@pytest.mark.parametrize("checkpoint_every", [2, None])
def test_removed_checkpoints_are_found_where_the_interval_is_known(
    tmp_path: Path, checkpoint_every: int | None
) -> None:
    config = config_of("lora", checkpoint_every=checkpoint_every)
    run, _ = train(tmp_path / "assistant", make_job("lora", config))
    shutil.rmtree(run.checkpoints_path)
    assert [finding.rule for finding in doctor(run.path).findings] == [CHECKPOINTS]
    run.write_manifest({})  # not finished
    result = doctor(run.path)
    if checkpoint_every is None:
        assert result.findings == ()
        assert result.skipped[CHECKPOINTS] == "there is no checkpoint yet"
    else:
        assert [finding.rule for finding in result.findings] == [CHECKPOINTS]


def test_compare(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other, _ = train(tmp_path / "assistant", make_job("lora", config_of("lora", batch_size=5)))
    result = compare([str(run), str(other.path)], out=tmp_path / "plot.svg")
    assert result.differences == {"batch_size": ("4", "5")}
    assert result.best is not None
    assert [row.n_steps for row in result.rows] == [12, 12]
    assert all(row.finished for row in result.rows)
    assert main(["compare", str(run), str(other.path), "--out", str(tmp_path / "p.svg")]) == 0
    assert "best run by validation loss" in capsys.readouterr().out


def test_another_split_cannot_be_ranked(run: Path, tmp_path: Path) -> None:
    other, _ = train(tmp_path / "assistant", make_job("lora", config_of("lora", seed=9)))
    result = compare([str(run), str(other.path)], out=tmp_path / "plot.svg")
    assert (result.same_loss, result.best) == (False, None)


@pytest.mark.parametrize("labels", ["texts.csv", None])
def test_classifiers_of_two_models_have_one_validation_set_if_it_is_a_file(
    run: Path, tmp_path: Path, labels: str | None
) -> None:
    runs = [shutil.copytree(run, tmp_path / name) for name in ("first", "second")]
    for each in runs:
        config = ClassifyConfig(run=each / "model", labels=labels, method="last")
        RunFolder(each).write_config(config)
        RunFolder(each).write_manifest({"verb": "classify"})
    result = compare([str(each) for each in runs], out=tmp_path / "plot.svg")
    assert result.differences.keys() == {"run"}
    assert result.same_loss == (labels is not None)


@pytest.mark.parametrize("name", ["test", "validation", "split_column"])
def test_classifiers_with_other_files_for_validation_cannot_be_ranked(
    run: Path, tmp_path: Path, name: str
) -> None:
    runs = [shutil.copytree(run, tmp_path / folder) for folder in ("first", "second")]
    for each, more in zip(runs, ({}, {name: "other"}), strict=True):
        config = ClassifyConfig(run=run, labels="texts.csv", method="last")
        RunFolder(each).write_config(replace_settings(config, **more))
        RunFolder(each).write_manifest({"verb": "classify"})
    result = compare([str(each) for each in runs], out=tmp_path / "plot.svg")
    assert (result.differences.keys(), result.same_loss) == ({name}, False)


@pytest.mark.parametrize("change", [{"loss": "ipo"}, {"beta": 5.0}, {"sft_weight": 1.0}])
def test_preference_runs_with_other_losses_cannot_be_ranked(
    run: Path, tmp_path: Path, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [shutil.copytree(run, tmp_path / folder) for folder in ("first", "second")]
    for each, more in zip(runs, ({}, change), strict=True):
        RunFolder(each).write_config(PreferConfig(run=run, records="pairs.jsonl", **more))
        RunFolder(each).write_manifest({"verb": "prefer"})
    words = [*map(str, runs), "--out", str(tmp_path / "plot.svg")]
    assert main(["compare", *words]) == 0
    screen = " ".join(capsys.readouterr().out.split())
    assert "different validation sets or losses, so they cannot be ranked" in screen
    assert "nats" not in screen


def test_runs_of_two_commands_are_refused(run: Path, tmp_path: Path) -> None:
    other, _ = train(tmp_path / "classifier", make_job("lora"))
    other.write_manifest({"verb": "classify"})
    with pytest.raises(UserError, match="runs of classify and finetune"):
        compare([str(run), str(other.path)], out=tmp_path / "plot.svg")
