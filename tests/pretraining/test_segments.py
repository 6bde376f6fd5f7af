"""A run in segments: the same curve, resumed exactly, chosen where a window does not fit."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from killed import run_killed
from small_runs import MODEL, assert_same_weights, make_data, prose, settings
from torchrun import curve, run

from groundup.base.errors import UserError
from groundup.model.gpt import GPT
from groundup.model.state import TextState
from groundup.planning import fitting, memory
from groundup.planning.fitting import check_memory, total_bytes, with_segments
from groundup.pretraining.pretrain import pretrain
from groundup.train.config import PretrainConfig
from groundup.train.data import open_data, with_vocabulary

CALM = replace(MODEL, dropout=0.0)
LONG = replace(MODEL, context_length=2048, layers="w", window=16)


class KilledError(Exception):
    pass


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["loss_nats"] for line in lines]


def test_the_curve_is_that_of_whole_windows(data: Path) -> None:
    whole = pretrain(settings(data, model=CALM, max_grad_norm=0.5, dtype="fp32")).run
    parts = settings(
        data,
        out=data.parent / "parts",
        model=CALM,
        max_grad_norm=0.5,
        dtype="fp32",
        segment=7,
        grad_accumulation_steps=2,
    )
    assert losses(pretrain(parts).run) == pytest.approx(losses(whole), abs=1e-4)


def test_interrupted_inside_a_step_it_ends_with_the_same_weights(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout, whose masks the backward pass draws again."""
    whole = pretrain(settings(data, out=data.parent / "whole", segment=5)).run
    true, calls = GPT.segment, 0

    def segment(self: GPT, ids: Any, state: TextState | None = None) -> Any:
        nonlocal calls
        calls += self.training
        if calls == 8 * 8 - 2:  # the eighth step has 4 segments forward, and 4 backward
            raise KilledError
        return true(self, ids, state)

    with monkeypatch.context() as patched:
        patched.setattr(GPT, "segment", segment)
        with pytest.raises(KilledError):
            pretrain(settings(data, segment=5))
    result = pretrain(settings(data, segment=5))
    assert result.resumed_from_step == 5
    assert_same_weights(whole, result.run)


def train(folder: Path) -> None:
    """Train in segments; started in processes that are killed."""
    pretrain(settings(folder.parent / "data", out=folder, segment=5))


@pytest.mark.slow
def test_killed_inside_a_step_it_ends_with_the_same_weights(tmp_path: Path) -> None:
    make_data(tmp_path / "data")
    for folder in run_killed("pretraining.test_segments:train", tmp_path, n_kills=6, seed=1):
        assert_same_weights(tmp_path / "calm", folder)


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    make_data(tmp_path / "data")
    alone = curve(run(tmp_path, 1, segment=5))
    parts = run(tmp_path, 2, segment=5, grad_accumulation_steps=2)
    assert curve(parts) == pytest.approx(alone, abs=1e-5)


def long_run(data: Path, **changes: Any) -> PretrainConfig:
    usual = {"model": LONG, "batch_size": 1, "steps": 2, "dtype": "fp32", "validate_every": None}
    config = settings(data, **{**usual, **changes})
    return with_vocabulary(config, open_data(data))


def with_memory(monkeypatch: pytest.MonkeyPatch, n_bytes: int) -> None:
    monkeypatch.setattr(fitting, "usable_memory_bytes", lambda device: n_bytes)


def test_segments_are_chosen_where_a_window_does_not_fit_and_kept_on_resuming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = make_data(tmp_path / "data", prose(1, 1000), prose(2, 100))
    config = long_run(data)
    needed = total_bytes(config)
    assert with_segments(config) == config
    with_memory(monkeypatch, needed - 1)
    with caplog.at_level(logging.WARNING):
        chosen = with_segments(config)
    assert chosen.hardware.segment in (256, 512, 1024)
    assert total_bytes(chosen) < needed
    assert "Each step is computed in segments of" in caplog.text
    assert len(caplog.records) == 1
    batch = long_run(data, batch_size=4)  # its windows fit one at a time
    with_memory(monkeypatch, total_bytes(batch) - 1)
    assert with_segments(batch) == batch
    with_memory(monkeypatch, needed - 1)
    stop = settings(data).checkpoints

    def stopped(step: Any) -> None:
        raise KilledError

    config = replace(config, checkpoints=replace(stop, checkpoint_every=1))
    with pytest.raises(KilledError):
        pretrain(config, stopped)
    monkeypatch.undo()
    resumed = pretrain(config)
    assert resumed.run == config.out
    assert f"segment = {chosen.hardware.segment}" in (resumed.run / "config.toml").read_text()


def test_what_does_not_fit_in_segments_either_is_refused_with_what_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data(tmp_path / "data")
    model = replace(MODEL, context_length=1_500_000, d_model=128)
    full = with_vocabulary(settings(data, model=model, batch_size=1), open_data(data))
    learned = replace(full, model=replace(full.model, positions="learned", qk_norm=False))
    with_memory(monkeypatch, 3 * 10**9)
    # Tests before this one have left memory in the process.
    monkeypatch.setattr(memory, "memory_in_use_bytes", lambda device: 4 * 10**8)
    for config, words in ((full, "or .* GB in segments of"), (learned, "The learned positions")):
        with pytest.raises(UserError, match=words) as caught:
            check_memory(with_segments(config))
        fitting_settings: dict[str, Any] = caught.value.settings or {}
        assert fitting_settings["layers"] == "wd"
        fits = replace(
            config,
            model=replace(
                config.model,
                **{k: v for k, v in fitting_settings.items() if hasattr(config.model, k)},
            ),
            hardware=replace(config.hardware, segment=fitting_settings["segment"]),
        )
        check_memory(fits)


BAD: dict[str, dict[str, Any]] = {
    "A segment has 17 tokens and a window has 16": {"segment": 17},
    "segment is 0. A whole number of at least 1": {"segment": 0},
    "segment is -4": {"segment": -4},
    "segment does not work with documents='packed'": {"segment": 4, "documents": "packed"},
    "segment does not work with parallel='fsdp'": {"segment": 4, "parallel": "fsdp"},
    "segment does not work with compile='on'": {"segment": 4, "compile": "on"},
    "segment does not work with activation_checkpointing=True": {
        "segment": 4,
        "activation_checkpointing": True,
    },
}


@pytest.mark.parametrize("words", BAD)
def test_bad_settings_are_refused(words: str) -> None:
    with pytest.raises(UserError) as caught:
        settings(Path("data"), **BAD[words])
    assert words in caught.value.message
    if "17 tokens" in words:
        assert caught.value.settings == {"context_length": 34}
