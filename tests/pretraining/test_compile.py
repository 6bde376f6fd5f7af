"""`--compile`: the same run, each step in one program.

Each run is a process of its own, for the checks of shapes that tests wear cannot be compiled.
"""

from typing import Any

import pytest
import torch
from small_runs import MODEL, assert_same_weights, make_documents, messages, settings
from torchrun import curve, run

from groundup.base.errors import UserError
from groundup.base.fields import replace_settings
from groundup.planning.config import PlanConfig
from groundup.planning.plan import plan
from groundup.pretraining.pretrain import pretrain
from groundup.train import build


@pytest.mark.slow
def test_the_curve_is_that_of_plain_steps(folder):
    plain = curve(run(folder, 1))
    compiled = curve(
        run(folder, 2, compile=True, grad_accumulation_steps=2, activation_checkpointing=True)
    )
    assert compiled == pytest.approx(plain, abs=1e-4)


@pytest.mark.slow
def test_separate_documents_are_compiled_once(tmp_path):
    """In shapes that do not depend on the documents, with the curve of plain steps."""
    make_documents(tmp_path / "data", messages(1), messages(2, 20))
    wishes: dict[str, Any] = {"documents": "packed", "model": {"n_layers": 1}}
    plain = curve(run(tmp_path, 1, **wishes))
    wishes["compile"] = True
    compiled = run(tmp_path, 1, grad_accumulation_steps=2, activation_checkpointing=True, **wishes)
    assert curve(compiled) == pytest.approx(plain, abs=1e-4)


@pytest.mark.slow
def test_killed_and_resumed_ends_with_the_same_weights(folder):
    wishes: dict[str, Any] = {
        "compile": True,
        "dtype": "bf16",
        "model": {"dropout": 0.1, "n_layers": 1},
    }
    whole = run(folder, 1, out=str(folder / "whole"), **wishes)
    broken = str(folder / "broken")
    run(folder, 1, out=broken, stop_at=7, fails=True, **wishes)
    assert_same_weights(whole, run(folder, 1, out=broken, **wishes))
    losses = curve(whole)
    assert losses[11] < losses[0] - 0.5


def test_plan_counts_the_time_to_compile(data, monkeypatch, clock):
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(build.Setup, "compile_now", lambda self: clock.advance(30.0))
    shown = plan(
        replace_settings(PlanConfig(), data=data, model=MODEL, steps=10, probe_s=0.1, compile=True)
    )
    assert shown.compile_s == pytest.approx(30.0, abs=0.1)
    assert shown.total_s > shown.compile_s + 10 * shown.step_s


def test_where_it_cannot_work_it_says_what_to_type(data, monkeypatch):
    with pytest.raises(UserError, match="parallel='ddp'"):
        settings(data, compile=True, parallel="fsdp")

    def no_compiler(*_, **__):
        raise RuntimeError("No working C++ compiler found\nin torch._inductor.config.cpp.cxx")

    monkeypatch.setattr(torch, "compile", no_compiler)
    with pytest.raises(UserError, match=r"No working C\+\+ compiler found.*A C\+\+ compiler \(and"):
        pretrain(settings(data, compile=True))
