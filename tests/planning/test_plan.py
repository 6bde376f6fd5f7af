import dataclasses
import math
import shutil
from dataclasses import replace
from pathlib import Path
from pydoc_data.topics import topics
from types import SimpleNamespace

import pytest
from small_runs import MODEL, make_data
from small_runs import settings as small_settings

from groundup.base.errors import UserError
from groundup.base.fields import replace_settings
from groundup.model.gpt import GPT
from groundup.planning import fitting, memory
from groundup.planning.config import PlanConfig
from groundup.planning.fitting import _settings_that_fit
from groundup.planning.memory import (
    checkpoint_bytes,
    count_disk,
    count_memory,
    settings_sha256,
)
from groundup.planning.plan import _steps_within, plan
from groundup.pretraining.pretrain import pretrain
from groundup.train.data import open_data, with_vocabulary


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path / "data")


def settings(data, **changes) -> PlanConfig:
    usual = {"data": data, "model": MODEL, "batch_size": 4, "probe_s": 0.2, "threads": 1}
    return replace_settings(PlanConfig(), **{**usual, **changes})


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


def test_a_warmup_that_is_longer_than_the_run_is_refused(data):
    with pytest.raises(UserError, match=r"60 steps is too long for 50 steps.*warmup_steps=5"):
        plan(settings(data, steps=50, schedule="cosine", warmup_steps=60))


def test_a_run_ends_within_the_predicted_range(tmp_path):
    words = "\n".join(topics[name] for name in sorted(topics))  # real text that Python ships
    data = make_data(tmp_path / "data", words[:80_000], words[80_000:90_000])
    config = settings(data, out=tmp_path / "run", steps=150)
    low, high = plan(config).last_loss_nats
    longer = plan(replace(config, steps=30_000)).last_loss_nats
    assert longer[0] < low
    assert longer[1] < high < math.log(open_data(data).tokenizer.vocab_size)
    assert low <= pretrain(with_vocabulary(config, open_data(data))).validation_loss_nats <= high


def test_a_run_of_one_text_is_not_compared_with_the_plan_of_a_mixture(data):
    config = settings(data)
    other = data.parent / "other"
    mixed = [
        replace_settings(config, mix=(f"{data}=1", f"{other}={weight}"), data=PlanConfig().data)
        for weight in (1, 2)
    ]
    assert len({settings_sha256(each) for each in (config, *mixed)}) == 3


def test_leaves_nothing_behind(data):
    before = sorted(data.parent.rglob("*"))
    plan(settings(data))
    assert sorted(data.parent.rglob("*")) == before


def test_train_time_chooses_the_steps(data):
    result = plan(settings(data, train_time="0.6s", max_passes=1e9))
    assert result.total_s == pytest.approx(0.6, rel=0.1)
    assert result.steps > 1
    config = with_vocabulary(settings(data, steps=result.steps), open_data(data))
    assert result.disk_bytes == count_disk(config)


def test_steps_fill_the_time_with_their_validations():
    steps = _steps_within(100.0, step_s=0.1, validation_s=2.0, every=50)
    assert 97 <= steps * 0.1 + (1 + steps // 50) * 2.0 <= 102


def test_train_time_stops_at_the_limit_of_passes(data):
    result = plan(settings(data, train_time="60m", max_passes=3.0))
    assert result.n_passes <= 3
    assert "60m is enough time" in result.warnings[0]


def test_a_budget_stops_where_the_text_supports_no_more(data):
    result = plan(settings(data, budget="1h"))
    assert result.n_passes == pytest.approx(40, rel=0.1)
    assert result.total_s < 60
    assert [text for text in result.warnings if "1h is more than the text supports" in text]
    assert not any("overfitting" in text for text in result.warnings)


def test_names_what_does_not_fit_and_what_does(data):
    big = dataclasses.replace(MODEL, context_length=64, d_model=512, n_layers=1)
    rows = 20_000_000  # one batch of them takes more memory than any machine of today has
    with pytest.raises(UserError, match=r"GB are free.*grad_accumulation_steps=\d+"):
        plan(settings(data, model=big, batch_size=rows))


def test_micro_batches_and_muon_save_memory(data):
    rows = 4096  # their activations are more than a look at the held-out text takes
    whole = count_memory(settings(data, batch_size=rows))
    parts = count_memory(settings(data, batch_size=rows, grad_accumulation_steps=4))
    adamw = count_memory(settings(data, batch_size=rows, optimizer="adamw"))
    assert parts["activations"] * 4 == whole["activations"]
    assert parts["weights"] == whole["weights"]
    assert whole["optimizer"] < adamw["optimizer"]
    again = count_memory(settings(data, batch_size=rows, activation_checkpointing=True))
    assert again["activations"] < 0.7 * whole["activations"]


@pytest.mark.parametrize(("dtype", "n_bytes"), [("bf16", 2), ("fp32", 4)])
def test_sharded_weights_are_gathered_block_by_block(data, monkeypatch, dtype, n_bytes):
    config = settings(data, n_layers=8, dtype=dtype, parallel="fsdp", device="cpu")
    n_all, n_one = (
        sum(p.numel() for p in GPT(config.model.with_layers(n)).parameters()) for n in (8, 1)
    )
    monkeypatch.setenv("WORLD_SIZE", "4")
    memory = count_memory(replace_settings(config, batch_size=4096))
    assert memory["weights"] == 4 * n_all // 4
    shard = n_all // 4 if dtype == "bf16" else 0  # rounded
    assert memory["gathered weights"] == n_bytes * (n_one + shard)
    assert "bf16 weights" not in memory


def test_disk_is_that_of_the_checkpoints(data):
    changes = {"keep_checkpoints": 1, "steps": 40, "sample_every": None}
    config = with_vocabulary(settings(data, out=data.parent / "run", **changes), open_data(data))
    run = pretrain(config).run
    taken = sum(file.stat().st_size for file in (run / "checkpoints").glob("*/*.safetensors"))
    each = (count_disk(replace_settings(config, keep_checkpoints=2)) - count_disk(config)) * 1.0
    n_kept = len(list((run / "checkpoints").glob("step-*")))
    assert taken / n_kept == pytest.approx(each, rel=0.25)  # headers weigh, the model is tiny


def test_a_full_disk_is_told_before(data, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"MB of disk.*keep_checkpoints=1"):
        plan(settings(data))


@pytest.mark.parametrize("changes", [{}, {"d_ff": 2048}, {"n_heads": 8, "n_kv_heads": 4}])
def test_the_smaller_settings_fit(data, monkeypatch, changes):
    monkeypatch.setattr(memory, "memory_in_use_bytes", lambda device: 0)
    monkeypatch.setattr(memory, "_LIBRARY_BYTES", 0)
    shape = dataclasses.replace(MODEL, d_model=512, n_layers=8, **changes)
    config = settings(data, model=shape, batch_size=64)
    ways = set()
    for share in (0.9, 0.5, 0.2):
        free = int(sum(count_memory(config).values()) * share)
        smaller = _settings_that_fit(config, free)
        assert smaller is not None
        assert sum(count_memory(replace_settings(config, **smaller)).values()) <= free
        ways.add(tuple(smaller.items()))
    assert len(ways) > 1
    assert _settings_that_fit(config, 1000) is None


def test_what_nothing_helps_against_is_said(data, monkeypatch):
    monkeypatch.setattr(fitting, "usable_memory_bytes", lambda device: 1000)
    with pytest.raises(UserError, match="No smaller batch, depth or width fits"):
        plan(settings(data))


def test_refuses_no_time(data):
    for nothing in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(UserError, match="train_time is"):
            settings(data, train_time=f"{nothing}m")
        with pytest.raises(UserError, match="probe_s is"):
            settings(data, probe_s=nothing)


def test_a_run_whose_first_checkpoint_does_not_fit_is_refused_at_the_start(
    data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = small_settings(data, steps=1, vocab_size=25)
    size = checkpoint_bytes(config)
    monkeypatch.setattr("groundup.planning.memory.free_disk_bytes", lambda _: size // 2)
    with pytest.raises(UserError, match="A checkpoint takes"):
        pretrain(config)
    assert not config.out.exists()
    monkeypatch.setattr("groundup.planning.memory.free_disk_bytes", lambda _: 2 * size)
    pretrain(config)
    assert "of disk" in caplog.text
