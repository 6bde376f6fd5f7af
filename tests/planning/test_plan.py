import dataclasses
import math
import shutil
from dataclasses import replace
from pydoc_data.topics import topics
from types import SimpleNamespace
from typing import Any

import pytest
from small_runs import MODEL, make_data

from groundup.base.errors import UserError
from groundup.model.gpt import GPT
from groundup.planning import memory
from groundup.planning.memory import _way_out, count_disk, count_memory
from groundup.planning.plan import PlanConfig, _steps_within, plan
from groundup.pretraining.pretrain import pretrain
from groundup.train.data import open_data, with_vocabulary


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path / "data")


def settings(data, **changes) -> PlanConfig:
    usual = {"data": data, "model": MODEL, "batch_size": 4, "probe_s": 0.2, "threads": 1}
    return PlanConfig(**{**usual, **changes})


def test_counts_what_is_built(data):
    result = plan(settings(data, steps=50, validate_every=20))
    vocab_size = round(math.exp(result.first_loss_nats))
    model = GPT(dataclasses.replace(MODEL, vocab_size=vocab_size))
    assert result.n_parameters == sum(p.numel() for p in model.parameters())
    assert sum(result.parameters.values()) == result.n_parameters
    assert sum(result.memory_bytes.values()) == result.total_memory_bytes
    assert result.steps == 50
    assert result.n_passes == pytest.approx(50 * 4 / 84, rel=0.02)  # 1,350 letters, 16 a window
    assert result.total_s == pytest.approx(50 * result.step_s + 3 * result.validation_s)


def test_a_run_ends_within_the_range_foretold(tmp_path):
    words = "\n".join(topics[name] for name in sorted(topics))  # real text that Python ships
    data = make_data(tmp_path / "data", words[:80_000], words[80_000:90_000])
    config = settings(data, out=tmp_path / "run", steps=150)
    low, high = plan(config).last_loss_nats
    longer = plan(replace(config, steps=30_000)).last_loss_nats
    assert longer[0] < low
    assert longer[1] < high < math.log(open_data(data).tokenizer.vocab_size)
    assert low <= pretrain(with_vocabulary(config, open_data(data))).validation_loss_nats <= high


def test_leaves_nothing_behind(data):
    before = sorted(data.parent.rglob("*"))
    plan(settings(data))
    assert sorted(data.parent.rglob("*")) == before


def test_minutes_choose_the_steps(data):
    result = plan(settings(data, minutes=0.01, max_passes=1e9))
    assert result.total_s == pytest.approx(0.6, rel=0.1)
    assert result.steps > 1


def test_steps_fill_the_time_with_their_validations():
    steps = _steps_within(100.0, step_s=0.1, validation_s=2.0, every=50)
    assert 97 <= steps * 0.1 + (1 + steps // 50) * 2.0 <= 102


def test_minutes_end_where_the_text_is_learnt_by_heart(data):
    result = plan(settings(data, minutes=60.0, max_passes=3.0))
    assert result.n_passes <= 3
    assert "60 minutes would suffice" in result.warnings[0]


def test_names_what_does_not_fit_and_what_does(data):
    big = dataclasses.replace(MODEL, context_length=64, d_model=512, n_layers=1)
    rows = 20_000_000  # one batch of them takes more memory than any machine of today has
    with pytest.raises(UserError, match=r"GB are free.*--n-micro-batches \d+"):
        plan(settings(data, model=big, batch_size=rows))


def test_micro_batches_and_muon_save_memory(data):
    rows = 4096  # their activations are more than a look at the held-out text takes
    whole = count_memory(settings(data, batch_size=rows))
    parts = count_memory(settings(data, batch_size=rows, n_micro_batches=4))
    adamw = count_memory(settings(data, batch_size=rows, optimizer="adamw"))
    assert parts["activations"] * 4 == whole["activations"]
    assert parts["weights"] == whole["weights"]
    assert whole["optimizer"] < adamw["optimizer"]
    again = count_memory(settings(data, batch_size=rows, recompute=True))
    assert again["activations"] < 0.7 * whole["activations"]


def test_disk_is_that_of_the_checkpoints(data):
    changes = {"out": data.parent / "run", "keep_checkpoints": 1, "steps": 40, "sample_every": 0}
    config = with_vocabulary(settings(data, **changes), open_data(data))
    run = pretrain(config).run
    taken = sum(file.stat().st_size for file in (run / "checkpoints").glob("*/*.safetensors"))
    each = (count_disk(replace(config, keep_checkpoints=2)) - count_disk(config)) * 1.0
    n_kept = len(list((run / "checkpoints").glob("step-*")))
    assert taken / n_kept == pytest.approx(each, rel=0.25)  # headers weigh, the model is tiny


def test_a_full_disk_is_told_before(data, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"MB of disk.*--keep-checkpoints 1"):
        plan(settings(data))


def with_options(config: PlanConfig, typed: str) -> PlanConfig:
    """The settings with these options typed beside them."""
    run: dict[str, Any] = {}
    model: dict[str, Any] = {}
    words = iter(typed.split())
    for word in words:
        name = word.lstrip("-").replace("-", "_")
        if name == "recompute":
            run[name] = True
            continue
        value = next(words)
        where = run if hasattr(config, name) else model
        where[name] = None if value == "off" else int(value)
    return replace(config, model=replace(config.model, **model), **run)


@pytest.mark.parametrize("changes", [{}, {"d_ff": 2048}, {"n_heads": 8, "n_kv_heads": 4}])
def test_the_way_out_fits(data, monkeypatch, changes):
    monkeypatch.setattr(memory, "memory_in_use_bytes", lambda device: 0)
    monkeypatch.setattr(memory, "_LATER_BYTES", 0)
    shape = dataclasses.replace(MODEL, d_model=512, n_layers=8, **changes)
    config = settings(data, model=shape, batch_size=64)
    ways = set()
    for share in (0.9, 0.5, 0.2):
        free = int(sum(count_memory(config).values()) * share)
        way_out = _way_out(config, free)
        assert way_out is not None
        assert sum(count_memory(with_options(config, way_out)).values()) <= free
        ways.add(way_out)
    assert len(ways) > 1
    assert _way_out(config, 1000) is None


def test_what_nothing_helps_against_is_said(data, monkeypatch):
    monkeypatch.setattr(memory, "usable_memory_bytes", lambda device: 1000)
    with pytest.raises(UserError, match="no batch or shape fits"):
        plan(settings(data))


def test_refuses_no_time(data):
    for nothing in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(UserError, match="--minutes is"):
            settings(data, minutes=nothing)
        with pytest.raises(UserError, match="--probe-s is"):
            settings(data, probe_s=nothing)
