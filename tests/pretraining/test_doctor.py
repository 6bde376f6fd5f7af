"""Runs broken on purpose: each rule finds its own, live and afterwards, and says what helps."""

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import ONE_LAYER as MODEL
from small_runs import KilledError, kill_at, make_data, prose, settings

from groundup.base.errors import UserError
from groundup.data.loader import Loader
from groundup.data.store import TokenStore
from groundup.planning.plan import PlanConfig
from groundup.pretraining import data_checks
from groundup.pretraining.data_checks import MAX_EPOCHS, leaked_share
from groundup.pretraining.doctor import RULES, Diagnosis, DoctorConfig, doctor
from groundup.pretraining.pretrain import pretrain
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.special import END_OF_TEXT
from groundup.train import curve_checks, trainer
from groundup.train.config import PretrainConfig
from groundup.train.curve_checks import Finding
from groundup.train.precision import MixedPrecision

NEED_TIME = {curve_checks.STARVED, curve_checks.PLATEAU, curve_checks.OVERFITTING}
"""Rules that judge no run of a few steps."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_data(tmp_path / "data", prose(1), prose(2, 300), ended=True)


def broken_run(data: Path, **changes) -> tuple[list[Finding], Diagnosis]:
    """Train; give what the watch said, and what the doctor says afterwards."""
    usual = {"model": MODEL, "steps": 30, "checkpoint_every": 10}
    usual |= {"sample_every": None, "validate_every": None}
    said: list[Finding] = []
    result = pretrain(settings(data, **{**usual, **changes}), on_finding=said.append)
    return said, doctor(DoctorConfig(run=result.run))


def every_ten(data: Path) -> PretrainConfig:
    return settings(
        data, model=MODEL, steps=30, checkpoint_every=10, sample_every=None, validate_every=None
    )


def assert_found(rule: str, said: list[Finding], diagnosis: Diagnosis, fix: str = "") -> None:
    assert [f.rule for f in said] == [rule], said
    assert [f.rule for f in diagnosis.findings] == [rule], diagnosis.findings
    for finding in (*said, *diagnosis.findings):
        assert fix in finding.fix
    assert set(diagnosis.passed) == set(RULES) - {rule} - diagnosis.skipped.keys()
    assert set(diagnosis.skipped) <= NEED_TIME


def change_loss(monkeypatch, change) -> None:
    """Let `change(loss, call)` have its way with the loss of every training batch."""
    plain, calls = MixedPrecision.forward, iter(range(10**6))

    def changed(self, ids, targets, reduction="mean"):
        loss = plain(self, ids, targets, reduction=reduction)
        return change(loss, next(calls)) if torch.is_grad_enabled() else loss

    monkeypatch.setattr(MixedPrecision, "forward", changed)


def test_a_healthy_run_is_called_healthy(data):
    said, diagnosis = broken_run(data, steps=200, validate_every=40)
    assert said == []
    assert diagnosis.findings == ()
    assert diagnosis.passed == RULES
    assert diagnosis.n_steps_done == 200


def test_what_a_short_run_does_not_tell_is_not_called_fine(data):
    _, diagnosis = broken_run(data, steps=20)
    assert set(diagnosis.skipped) == NEED_TIME
    assert "200 steps" in diagnosis.skipped[curve_checks.PLATEAU]


def test_starting_weights_too_large(data):
    large = dataclasses.replace(MODEL, init="torch", d_model=64)
    said, diagnosis = broken_run(
        data, model=large, learning_rate=1e-3, embedding_learning_rate=0.01
    )
    assert_found(curve_checks.FIRST_LOSS, said, diagnosis, "--init zero")


def test_a_rate_too_high(data):
    bare = dataclasses.replace(MODEL, qk_norm=False, norm="layer", init="gpt2")
    said, diagnosis = broken_run(data, model=bare, optimizer="adamw", learning_rate=4.0)
    assert curve_checks.RATE in [f.rule for f in said]
    found = next(f for f in diagnosis.findings if f.rule == curve_checks.RATE)
    assert "--learning-rate 1.3" in found.fix
    assert found.step is not None


def test_exploding_gradients(data, monkeypatch):
    change_loss(monkeypatch, lambda loss, call: loss * 1000 if call in (40, 43, 46) else loss)
    said, diagnosis = broken_run(data, steps=60, learning_rate=1e-3)
    said = [f for f in said if f.rule != curve_checks.RATE]  # the false loss looks like a rise, too
    assert [f.rule for f in said] == [curve_checks.EXPLODING]
    assert said[0].step == 47
    assert "--max-grad-norm" in said[0].fix
    assert curve_checks.EXPLODING in [f.rule for f in diagnosis.findings]


def test_dead_gradients(data, monkeypatch):
    def numb(loss, call):
        return loss.detach() + 0 * loss if call >= 20 else loss

    change_loss(monkeypatch, numb)
    said, diagnosis = broken_run(data, steps=40)
    assert_found(curve_checks.VANISHING, said, diagnosis, "--init zero")


def test_a_slow_disk(data, monkeypatch, clock):
    read = Loader.__next__

    def slow(self):
        clock.advance(0.05)
        return read(self)

    monkeypatch.setattr(Loader, "__next__", slow)
    said, diagnosis = broken_run(data, steps=55)
    assert_found(curve_checks.STARVED, said, diagnosis, "local disk")


def test_a_plateau(data):
    said, diagnosis = broken_run(
        data, steps=240, optimizer="adamw", learning_rate=1e-8, decay_frac=0.0
    )
    assert_found(curve_checks.PLATEAU, said, diagnosis, "--learning-rate 3e-08")


def test_learning_by_heart(tmp_path):
    data = make_data(
        tmp_path / "data", prose(1, 40), "moon fire " + prose(2, 300)[::-1], ended=True
    )
    said, diagnosis = broken_run(
        data, steps=160, validate_every=10, weight_decay=0.0, learning_rate=0.05
    )
    rules = {f.rule for f in said}
    assert rules == {curve_checks.OVERFITTING, data_checks.LENGTH}
    found = next(f for f in diagnosis.findings if f.rule == curve_checks.OVERFITTING)
    rows = [json.loads(x) for x in (diagnosis.run / "metrics.jsonl").read_text().splitlines()]
    best = min(
        (r for r in rows if "validation_loss_nats" in r), key=lambda r: r["validation_loss_nats"]
    )
    assert f"--steps {best['step']}" in found.fix


def test_validation_text_in_the_training_text(tmp_path):
    held_out = prose(2, 300)
    data = make_data(tmp_path / "data", prose(1) + " " + held_out[:500], held_out, ended=True)
    assert_found(data_checks.LEAK, *broken_run(data), fix="groundup prepare")


def test_leaked_share_is_counted_at_every_place():
    tokens = np.random.default_rng(0).integers(0, 50, 20_000)
    held_out = np.random.default_rng(1).integers(0, 50, 3200)  # 100 passages
    train = np.concatenate([tokens[:7], held_out[320:640], tokens])
    from groundup.data.windows import Windows

    def as_tokens(array):
        return Windows(array, 4).tokens

    assert leaked_share(as_tokens(train), as_tokens(held_out)) == pytest.approx(0.10)
    assert leaked_share(as_tokens(tokens), as_tokens(held_out)) == 0.0
    assert leaked_share(as_tokens(train), as_tokens(held_out), max_train_tokens=7) == 0.0
    assert leaked_share(as_tokens(tokens[:20]), as_tokens(held_out)) == 0.0


def test_targets_that_equal_the_inputs(data, monkeypatch):
    def without_shift(read):
        def inputs_twice(self, *k):
            batch = read(self, *k)
            return type(batch)((batch[0], batch[0]))

        return inputs_twice

    for name in ("batch", "__next__"):
        monkeypatch.setattr(Loader, name, without_shift(getattr(Loader, name)))
    said: list[Finding] = []
    result = pretrain(settings(data, model=MODEL), on_finding=said.append)
    assert [f.rule for f in said] == [data_checks.TARGETS]
    assert "groundup windows" in said[0].fix
    assert data_checks.TARGETS in [f.rule for f in doctor(DoctorConfig(run=result.run)).findings]


def test_ids_the_tokenizer_does_not_know(data):
    tokenizer = load_tokenizer(data / "tokenizer")
    ids = [*tokenizer.encode(prose(1)), tokenizer.vocab_size + 3]
    run = pretrain(settings(data, model=MODEL)).run
    shutil.rmtree(data / "train")
    TokenStore.build(
        data / "train",
        [ids],
        vocab_size=tokenizer.vocab_size + 4,
        tokenizer_fingerprint=tokenizer.fingerprint,
        end_of_text=tokenizer.special_tokens[END_OF_TEXT],
    )
    found = doctor(DoctorConfig(run=run, data=data)).findings
    assert [f.rule for f in found] == [data_checks.VOCABULARY]
    assert "groundup encode" in found[0].fix
    # Not named, it is not the data of the run any more.
    diagnosis = doctor(DoctorConfig(run=run))
    assert "the train store is different" in diagnosis.skipped[data_checks.VOCABULARY]


def test_data_of_another_tokenizer(data):
    run = pretrain(settings(data, model=MODEL)).run
    other = make_data(data.parent / "other", prose(1).upper(), prose(2).upper(), ended=True)
    found = doctor(DoctorConfig(run=run, data=other)).findings
    assert [f.rule for f in found] == [data_checks.VOCABULARY]
    CharacterTokenizer.from_text("xyz").save(other / "tokenizer")
    mixed = doctor(DoctorConfig(run=run, data=other))
    assert [f.rule for f in mixed.findings] == [data_checks.VOCABULARY]
    assert data_checks.LEAK in mixed.skipped


def test_fewer_batches_than_steps(tmp_path):
    data = make_data(tmp_path / "data", prose(1, 60), prose(2, 60), ended=True)
    said, diagnosis = broken_run(data, steps=300, validate_every=None, learning_rate=1e-3)
    assert [f.rule for f in said if f.rule == data_checks.LENGTH] == [data_checks.LENGTH]
    assert "--steps" in next(f for f in diagnosis.findings if f.rule == data_checks.LENGTH).fix
    assert PlanConfig().max_passes == MAX_EPOCHS


def test_a_text_smaller_than_a_batch(tmp_path):
    data = make_data(tmp_path / "data", prose(1, 20), prose(2, 60), ended=True)
    said, _ = broken_run(data, steps=12, batch_size=32)
    assert "--batch-size" in next(f for f in said if f.rule == data_checks.LENGTH).fix


def test_an_end_of_text_that_is_never_shown(tmp_path):
    data = make_data(tmp_path / "data", prose(1), prose(2, 300), ended=False)
    assert_found(data_checks.ENDINGS, *broken_run(data), fix="ends every document with it")


def test_not_a_number_rolls_back_and_goes_on(data, monkeypatch):
    """A fault that comes once, at step 15: back to step 10, and whole to the end."""
    change_loss(monkeypatch, lambda loss, call: loss * math.nan if call == 14 else loss)
    said, diagnosis = broken_run(data)
    assert_found(curve_checks.WEIGHTS, said, diagnosis, "--max-grad-norm")
    assert said[0].step == 15
    assert "1/3 of its learning rates" in said[0].message
    rows = [json.loads(x) for x in (diagnosis.run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 31))
    assert rows[10]["learning_rate"] == pytest.approx(rows[9]["learning_rate"] / 3, rel=0.1)
    assert [r["elapsed_s"] for r in rows] == sorted(r["elapsed_s"] for r in rows)


def test_weights_that_are_no_numbers_are_never_saved(data, monkeypatch):
    save = trainer.CheckpointWriter.save

    def poison(self, model, optimizer, progress):
        save(self, model, optimizer, progress)
        if progress.step == 10 and not progress.rollbacks:
            with torch.no_grad():  # after step 10 was saved, before step 11
                model.final_norm.weight[0] = math.inf

    monkeypatch.setattr(trainer.CheckpointWriter, "save", poison)
    said, diagnosis = broken_run(data)
    assert_found(curve_checks.WEIGHTS, said, diagnosis)


def test_a_run_that_always_diverges_ends_with_what_to_type(data, monkeypatch):
    change_loss(monkeypatch, lambda loss, call: loss * math.nan if call >= 14 else loss)
    said: list[Finding] = []
    with pytest.raises(UserError, match=r"step 11 .*learning_rate=0\.00025"):
        pretrain(
            every_ten(data),
            on_finding=said.append,
        )
    assert [f.rule for f in said] == [curve_checks.WEIGHTS] * 3
    assert "1/27" in said[-1].message


def test_killed_after_a_rollback_goes_on_at_the_lower_rates(data, monkeypatch):
    change_loss(monkeypatch, lambda loss, call: loss * math.nan if call == 14 else loss)
    config = every_ten(data)
    with pytest.raises(KilledError):
        pretrain(config, kill_at(14))
    monkeypatch.undo()
    # Killed before its fault came: at step 14 nothing had happened yet.
    change_loss(monkeypatch, lambda loss, call: loss * math.nan if call == 4 else loss)
    said: list[Finding] = []
    kept: list[float] = []

    def killed(step) -> None:
        kept.append(step.learning_rate)
        if said and step.step == 13:
            raise KilledError

    with pytest.raises(KilledError):
        pretrain(config, killed, on_finding=said.append)
    assert len(said) == 1
    monkeypatch.undo()
    rates: list[float] = []
    pretrain(config, lambda step: rates.append(step.learning_rate))
    assert rates[0] == pytest.approx(kept[0] / 3)  # both made step 11
