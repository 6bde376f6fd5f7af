"""Run folders damaged on purpose: what is lost, and whether the fix leads on."""

import json
import math
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from small_runs import ONE_LAYER as MODEL
from small_runs import KilledError, kill_at, make_data, prose, settings

from groundup.base.errors import UserError
from groundup.base.files import sha256_bytes, sha256_file, write_json
from groundup.base.run import RunFolder
from groundup.pretraining import data_checks
from groundup.pretraining.doctor import METRICS, DoctorConfig, doctor
from groundup.pretraining.pretrain import pretrain
from groundup.train import curve_checks


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_data(tmp_path / "data", prose(1), prose(2, 300), ended=True)


def test_broken_weights_on_the_disk_are_named(data):
    run = pretrain(settings(data, model=MODEL)).run
    newest = sorted((run / "checkpoints").glob("step-*"))[-1]
    path = newest / "model.safetensors"
    tensors = load_file(path)
    tensors["final_norm.weight"][0] = math.nan
    save_file(tensors, path)
    # The checksum would tell, too; here they were broken before it was taken.
    state = json.loads((newest / "state.json").read_text())
    state.pop("sha256")
    state["files"]["model.safetensors"] = sha256_file(path)
    digest = sha256_bytes(json.dumps(state, sort_keys=True).encode())
    write_json(newest / "state.json", {**state, "sha256": digest})
    found = doctor(DoctorConfig(run=run)).findings
    assert [f.rule for f in found] == [curve_checks.WEIGHTS]
    assert "final_norm.weight" in found[0].message


def test_a_run_that_died_before_its_first_checkpoint(data, caplog):
    caplog.set_level("INFO", "groundup")
    config = settings(data, model=MODEL, optimizer="adamw", learning_rate=1e30)
    with pytest.raises(UserError, match="learning_rate="):
        pretrain(config)
    diagnosis = doctor(DoctorConfig(run=config.out))
    found = [f for f in diagnosis.findings if f.rule == curve_checks.WEIGHTS]
    assert len(found) == 1
    assert "the loss" in found[0].message
    assert "--learning-rate" in found[0].fix
    assert curve_checks.WEIGHTS not in diagnosis.passed
    assert "the loss is" in (config.out / "log.txt").read_text()


def test_damaged_checkpoints_are_named(data):
    run = pretrain(settings(data, model=MODEL, checkpoint_every=4)).run
    newest, *older = RunFolder(run).checkpoints()
    (newest / "optimizer.safetensors").write_bytes(b"")
    diagnosis = doctor(DoctorConfig(run=run))
    assert [f.rule for f in diagnosis.findings] == [curve_checks.CHECKPOINTS]
    assert str(newest) in diagnosis.findings[0].message
    assert f"remove {newest}; an intact one is then used" in diagnosis.findings[0].fix
    assert diagnosis.checkpoint == older[0]
    for checkpoint in older:
        (checkpoint / "state.json").unlink()
    diagnosis = doctor(DoctorConfig(run=run))
    assert [f.rule for f in diagnosis.findings] == [curve_checks.CHECKPOINTS] * (1 + len(older))
    assert curve_checks.WEIGHTS in diagnosis.skipped
    assert diagnosis.checkpoint is None
    for finding in diagnosis.findings:
        assert f"train again in a new folder: groundup pretrain --config {run}" in finding.fix


def test_the_fix_for_a_damaged_checkpoint_is_true_of_an_unfinished_run(data):
    config = settings(data, model=MODEL, checkpoint_every=4)
    with pytest.raises(KilledError):
        pretrain(config, kill_at(10))
    run = config.out
    newest, older = RunFolder(run).checkpoints()
    (newest / "optimizer.safetensors").write_bytes(b"")
    fix = doctor(DoctorConfig(run=run)).findings[0].fix
    assert fix == f"Remove {newest} and run the same command again; it resumes from {older.name}."
    (older / "optimizer.safetensors").write_bytes(b"")
    for finding in doctor(DoctorConfig(run=run)).findings:
        assert f"remove {run / 'checkpoints'} and start again at step 1" in finding.fix
    shutil.rmtree(run / "checkpoints")
    lost = doctor(DoctorConfig(run=run)).findings
    assert [f.rule for f in lost] == [curve_checks.CHECKPOINTS]
    result = pretrain(config)
    assert (result.run, result.resumed_from_step) == (run, 0)


def test_a_finished_run_without_checkpoints_is_ill(data):
    run = pretrain(settings(data, model=MODEL)).run
    shutil.rmtree(run / "checkpoints")
    diagnosis = doctor(DoctorConfig(run=run))
    assert [f.rule for f in diagnosis.findings] == [curve_checks.CHECKPOINTS]
    assert "There is no checkpoint in" in diagnosis.findings[0].message
    assert "groundup pretrain --config" in diagnosis.findings[0].fix
    assert diagnosis.checkpoint is None


def test_metrics_that_are_gone_are_a_finding(data):
    run = pretrain(settings(data, model=MODEL)).run
    (run / "metrics.jsonl").unlink()
    diagnosis = doctor(DoctorConfig(run=run))
    assert [f.rule for f in diagnosis.findings] == [METRICS]
    assert "12 of 12 steps have no line" in diagnosis.findings[0].message
    assert diagnosis.n_steps_done == 12
    assert "no step yet" not in str(diagnosis.skipped)


@pytest.mark.parametrize(
    "line", [b'{"step": 3, "lo', b"[1,2]", b"\xff\xfe", b'{"step": 3}', b'{"step": "x"}']
)
def test_invalid_lines_of_metrics_are_a_finding(line, data):
    run = pretrain(settings(data, model=MODEL)).run
    metrics = run / "metrics.jsonl"
    lines = metrics.read_bytes().split(b"\n")
    metrics.write_bytes(b"\n".join([*lines[:2], line, *lines[3:]]))
    found = doctor(DoctorConfig(run=run)).findings
    assert [f.rule for f in found] == [METRICS]
    assert "1 of 12 steps have no line, the first is 3; line 3 is invalid" in found[0].message


def test_a_last_line_cut_off_is_a_finding_only_where_no_start_comes(data):
    config = settings(data, model=MODEL)
    with pytest.raises(KilledError):
        pretrain(config, kill_at(7))
    metrics = config.out / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:-30])
    assert doctor(DoctorConfig(run=config.out)).findings == ()
    run = pretrain(config).run
    assert doctor(DoctorConfig(run=run)).findings == ()
    metrics.write_bytes(metrics.read_bytes()[:-30])
    found = doctor(DoctorConfig(run=run)).findings
    assert [f.rule for f in found] == [METRICS]
    assert "1 of 12 steps" in found[0].message
    metrics.write_bytes(metrics.read_bytes().rpartition(b"\n")[0] + b"\n")
    assert "invalid" not in doctor(DoctorConfig(run=run)).findings[0].message


@pytest.mark.parametrize("content", ["[]", "null", "{", "{}"])
def test_a_damaged_failure_file_is_no_traceback(content, data):
    run = pretrain(settings(data, model=MODEL)).run
    RunFolder(run).failure.write_text(content)
    found = doctor(DoctorConfig(run=run)).findings
    assert [f.rule for f in found] == [curve_checks.WEIGHTS]
    assert "no checkpoint to go back to, or three rollbacks did not help" in found[0].message


def test_unfinished_without_data_and_no_run_at_all(data, tmp_path):
    with pytest.raises(KilledError):
        pretrain(settings(data, model=MODEL), kill_at(3))
    (data / "train").rename(data / "elsewhere")
    diagnosis = doctor(DoctorConfig(run=data.parent / "run"))
    assert diagnosis.n_steps_done == 3
    assert data_checks.LEAK in diagnosis.skipped
    assert curve_checks.WEIGHTS in diagnosis.skipped
    with pytest.raises(UserError, match="no run folder"):
        doctor(DoctorConfig(run=tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: .*not a pretraining run.*config\.toml"):
        doctor(DoctorConfig(run=tmp_path / "empty"))
