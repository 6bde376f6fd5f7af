"""`--compile`: the same run, each step in one program.

Each run is a process of its own, for the checks of shapes that tests wear cannot be compiled.
"""

import os
import subprocess
import sys

import pytest
import torch
from test_parallel import curve, folder, run  # noqa: F401
from test_pretrain import assert_same_weights, data, settings  # noqa: F401

from groundup.base.errors import UserError
from groundup.train.pretrain import pretrain


@pytest.mark.slow
def test_the_curve_is_that_of_plain_steps(folder):  # noqa: F811
    plain = curve(run(folder, 1))
    compiled = curve(run(folder, 2, compile=True, n_micro_batches=2, recompute=True))
    assert compiled == pytest.approx(plain, abs=1e-4)


@pytest.mark.slow
def test_killed_and_resumed_ends_with_the_same_weights(folder):  # noqa: F811
    wishes = {"compile": True, "dtype": "bf16", "model": {"dropout": 0.1}}
    whole = run(folder, 1, out=str(folder / "whole"), **wishes)
    broken = str(folder / "broken")
    run(folder, 1, out=broken, stop_at=7, fails=True, **wishes)
    assert_same_weights(whole, run(folder, 1, out=broken, **wishes))
    losses = curve(whole)
    assert losses[11] < losses[0] - 0.5


@pytest.mark.slow
def test_plan_counts_the_time_to_compile(folder):  # noqa: F811
    small = ["--context-length", "16", "--d-model", "16", "--n-layers", "1", "--n-heads", "2"]
    command = [sys.executable, "-m", "groundup", "plan", str(folder / "data"), *small]
    command += ["--compile", "--probe-s", "0.3", "--out", str(folder / "run")]
    wide = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, env=wide, timeout=200)
    assert " s to compile" in done.stdout, done.stderr


def test_where_it_cannot_work_it_says_what_to_type(data, monkeypatch):  # noqa: F811
    with pytest.raises(UserError, match="--parallel ddp"):
        settings(data, compile=True, parallel="fsdp")

    def no_compiler(*_, **__):
        raise RuntimeError("No working C++ compiler found\nin torch._inductor.config.cpp.cxx")

    monkeypatch.setattr(torch, "compile", no_compiler)
    with pytest.raises(UserError, match=r"No working C\+\+ compiler found; a C\+\+ compiler \(and"):
        pretrain(settings(data, compile=True))
