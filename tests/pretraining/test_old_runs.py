"""A run of version 0.1, with the old names of settings, opens and is resumed."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from groundup.base.config import from_mapping
from groundup.base.fields import replace_settings
from groundup.base.run import RunFolder
from groundup.evaluation.evaluate import EvaluateConfig, evaluate
from groundup.pretraining.compare import CompareConfig, compare
from groundup.pretraining.doctor import DoctorConfig, doctor
from groundup.pretraining.pretrain import pretrain
from groundup.train.config import PretrainConfig

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run-0.1.0"


@pytest.fixture
def old(tmp_path, monkeypatch):
    """The run folder, beside its data as it was trained on: `data` in the working folder."""
    shutil.copytree(FIXTURE, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    return (tmp_path / "run").rename(tmp_path / "runs" / "pretrain")


def test_it_loads_and_is_evaluated(old):
    import groundup

    assert groundup.load(old).model.config.d_model == 8
    assert evaluate(EvaluateConfig(run=old, data=Path("data"))).bits_per_byte > 0
    assert doctor(DoctorConfig(run=old)).n_steps_done == 12


def test_an_unfinished_one_is_resumed_and_ends_with_the_same_weights(old):
    done = load_file(old / "checkpoints" / "step-000012" / "model.safetensors")
    shutil.rmtree(old / "checkpoints" / "step-000012")
    manifest = json.loads((old / "manifest.json").read_text("utf-8"))
    del manifest["finished_at"]
    (old / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    config = from_mapping(PretrainConfig, RunFolder(old).read_config())
    result = pretrain(config)
    assert (result.run.resolve(), result.resumed_from_step) == (old.resolve(), 6)
    again = load_file(old / "checkpoints" / "step-000012" / "model.safetensors")
    for name, weight in done.items():  # bfloat16, which other versions round in other places
        torch.testing.assert_close(again[name], weight, atol=4e-3, rtol=1e-3)


def test_it_is_compared_with_a_new_one(old):
    config = from_mapping(PretrainConfig, RunFolder(old).read_config())
    new = pretrain(replace_settings(config, learning_rate=0.01, steps=6)).run
    found = compare(CompareConfig(runs=(str(old), str(new))))
    assert found.differences == {"optimizer.learning_rate": ("0.02", "0.01"), "steps": ("12", "6")}
