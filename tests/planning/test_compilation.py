"""compile="auto": on where the steps earn back the time, and the run stays what it was."""

import logging
import shutil

import pytest
import torch
from small_runs import KilledError, kill_at, settings

from groundup.base.config import read_recipe
from groundup.base.fields import replace_settings
from groundup.base.run import RunFolder
from groundup.planning import compilation
from groundup.planning.compilation import with_compilation
from groundup.planning.config import PlanConfig
from groundup.planning.plan import plan
from groundup.pretraining.pretrain import pretrain
from groundup.train.config import PretrainConfig


@pytest.fixture
def gpu(monkeypatch):
    """A GPU on which a step of any model takes 0.1 s."""
    monkeypatch.setattr(compilation, "choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(compilation, "_missing", lambda device: "")
    monkeypatch.setattr(compilation, "_estimated_step_s", lambda config, device: 0.1)


def choice(seconds=None, **changes) -> str:
    config, why = with_compilation(replace_settings(PretrainConfig(), **changes), seconds)
    assert config.hardware.compile == ("on" if why.on else "off")
    assert why.reason.endswith(".")
    return config.hardware.compile


@pytest.mark.usefixtures("gpu")
def test_on_a_gpu_long_runs_are_compiled(monkeypatch, caplog):
    assert [choice(steps=steps) for steps in (100, 1100, 1300, 10**6)] == ["off", "off", "on", "on"]
    assert [choice(seconds) for seconds in (30.0, 600.0)] == ["off", "on"]
    assert [choice(600.0, compile=set_) for set_ in (False, True)] == ["off", "on"]
    monkeypatch.setattr(compilation, "_missing", lambda device: "Triton is not installed")
    with caplog.at_level(logging.WARNING):
        assert choice(600.0) == "off"
    assert "not compiled: Triton is not installed." in caplog.text


def test_what_a_gpu_needs_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(compilation.importlib.util, "find_spec", lambda name: object())
    device = torch.device("cuda")
    assert compilation._missing(device) == ""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "C compiler" in compilation._missing(device)


def test_a_step_is_slow_by_its_flops_or_by_its_kernels(monkeypatch):
    flops_per_s = {torch.bfloat16: 1e13, torch.float32: 1e12}
    monkeypatch.setattr(
        compilation, "_product_flops_per_s", lambda device, dtype: flops_per_s[dtype]
    )
    wide = replace_settings(PretrainConfig(), d_model=768, n_heads=12, batch_size=64)
    device = torch.device("cpu")
    one, two = (
        compilation._estimated_step_s(replace_settings(config, batch_size=2 * 64), device)
        / compilation._estimated_step_s(config, device)
        for config in (wide, replace_settings(wide, d_model=16, n_heads=1, context_length=16))
    )
    assert (one, two) == (pytest.approx(2.0), 1.0)
    low, full = (
        compilation._estimated_step_s(replace_settings(wide, dtype=dtype), device)
        for dtype in ("bf16", "fp32")
    )
    assert full == pytest.approx(10 * low)


def test_plan_says_why(data):
    shown = plan(PlanConfig(data=data, probe_s=0.1))
    assert shown.compilation.startswith("off. On a CPU it saved 0 to 20 % of a step")


def test_a_resumed_run_keeps_what_was_chosen(data, monkeypatch):
    config = settings(data)
    with pytest.raises(KilledError):
        pretrain(config, kill_at(7))
    path = RunFolder(config.out).config_path
    assert read_recipe(path)["hardware"]["compile"] == "off"

    def never(*arguments):
        raise AssertionError("chosen a second time")

    monkeypatch.setattr(compilation, "_choose", never)
    assert pretrain(config).resumed_from_step == 5
