"""One trainer for every fine-tuning job: exact resuming, and checkpoints of what is trained."""

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_jobs import KINDS, N_STEPS, config_of, make_job, train, weights_of
from killed import run_killed
from peers import peer
from safetensors.torch import load_file
from small_runs import KilledError, kill_at

from groundup.base.errors import UserError
from groundup.base.run import RunFolder
from groundup.finetune.training import fine_tune, open_fine_tuning
from groundup.train.curve_checks import Finding
from groundup.train.metrics import read_metrics
from groundup.train.step import Step
from groundup.weights.checkpoint_format import load_model


def final(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "final.safetensors")


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, weight in a.items():
        assert torch.equal(weight, b[name]), name


@pytest.fixture(scope="module", params=KINDS)
def uninterrupted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, RunFolder]:
    """A run of each kind that was never stopped."""
    run, _ = train(tmp_path_factory.mktemp("calm") / "calm", make_job(request.param))
    return request.param, run


@pytest.mark.parametrize("at", [1, 6, 7])
def test_a_run_that_is_resumed_ends_with_the_same_weights(
    tmp_path: Path, uninterrupted: tuple[str, RunFolder], at: int
) -> None:
    kind, calm = uninterrupted
    job = make_job(kind)
    run, unfinished = open_fine_tuning(tmp_path / "other", job.config)
    assert not unfinished
    with pytest.raises(KilledError):
        fine_tune(job, run, on_step=kill_at(at))
    torch.manual_seed(99)  # another process
    again, trained = train(tmp_path / "other", make_job(kind))
    assert again.path == run.path
    assert trained.resumed_from_step == {1: 0, 6: 4, 7: 6}[at]
    assert_same(final(calm.path), final(again.path))
    steps = [
        [
            (row["step"], row["loss_nats"], row.get("validation_loss_nats"))
            for row in read_metrics(r)
        ]
        for r in (calm, again)
    ]
    assert steps[0] == steps[1]
    assert [step for step, _, _ in steps[0]] == list(range(1, N_STEPS + 1))


def test_dropout_and_the_seed_change_the_weights(tmp_path: Path) -> None:
    one, _ = train(tmp_path / "one", make_job("full"))
    two, _ = train(tmp_path / "two", make_job("full", config_of("full", seed=1)))
    name = "blocks.0.mlp.up.weight"
    assert not torch.equal(final(one.path)[name], final(two.path)[name])


def check_killed_runs(folder: Path, kind: str, n_kills: int, seed: int) -> None:
    runs = run_killed("finetune_jobs:train_kind", folder, kind, n_kills=n_kills, seed=seed)
    assert runs
    # A process that is killed when all is written, but before it ends, makes another run.
    folders = [path for path in folder.iterdir() if path.name != "calm"]
    assert {path.name.partition("-")[0] for path in folders} == {run.name for run in runs}
    for run in folders:
        assert_same(final(folder / "calm"), final(run))
        assert RunFolder(run).is_finished
        assert not list(run.rglob("*.tmp"))
        assert len(read_metrics(RunFolder(run))) == N_STEPS


def test_kill_9_at_random_moments(tmp_path: Path) -> None:
    check_killed_runs(tmp_path, "lora", n_kills=8, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_kill_9_many_times(tmp_path: Path, kind: str) -> None:
    check_killed_runs(tmp_path, kind, n_kills=5, seed=7)


def test_checkpoints_hold_what_is_trained(tmp_path: Path) -> None:
    job = make_job("lora")
    run, _ = train(tmp_path / "run", job)
    trained = {name for name, p in job.model.named_parameters() if p.requires_grad}
    for checkpoint in run.checkpoints():
        assert load_file(checkpoint / "trained.safetensors").keys() == trained
        assert not (checkpoint / "model.json").exists()
    assert all("lora_" in name for name in trained)
    assert len(run.checkpoints()) <= 2  # the latest and the best


def test_a_checkpoint_of_a_full_model_is_a_model(tmp_path: Path) -> None:
    run, trained = train(tmp_path / "run", make_job("full"))
    best = run.best()
    assert best is not None
    assert best.name == f"step-{trained.best_step:06d}"
    assert_same(weights_of(load_model(best)), final(run.path))


def test_the_best_weights_are_returned(tmp_path: Path) -> None:
    losses = iter([5.0, 3.0, 1.0, 2.0, 4.0])  # before the first step, then every three steps
    job = replace(make_job("full"), validate=lambda: next(losses))
    run, trained = train(tmp_path / "run", job)
    assert (trained.first_validation_loss_nats, trained.validation_loss_nats) == (5.0, 1.0)
    assert (trained.best_step, trained.n_steps) == (6, 12)
    stored = load_file(run.checkpoints_path / "step-000006" / "model.safetensors")
    assert torch.equal(stored["final_norm.weight"], final(run.path)["final_norm.weight"])


def test_without_a_validation_the_last_weights_are_the_best(tmp_path: Path) -> None:
    _, trained = train(tmp_path / "run", make_job("unvalidated"))
    assert (trained.best_step, trained.validation_loss_nats) == (N_STEPS, None)


def test_the_validation_runs_in_evaluation_mode_and_steps_in_training_mode(tmp_path: Path) -> None:
    job = make_job("full")
    modes: list[tuple[str, bool]] = []

    def validate() -> float:
        modes.append(("validation", job.model.training))
        return 1.0

    def loss(*batch: torch.Tensor) -> torch.Tensor:
        modes.append(("step", job.model.training))
        result: torch.Tensor = make_loss(*batch)
        return result

    make_loss: Any = job.loss
    train(tmp_path / "run", replace(job, validate=validate, loss=loss))
    assert set(modes) == {("validation", False), ("step", True)}
    assert not job.model.training


def test_another_identity_is_refused(tmp_path: Path) -> None:
    job = make_job("full")
    run, _ = open_fine_tuning(tmp_path / "run", job.config)
    with pytest.raises(KilledError):
        fine_tune(job, run, on_step=kill_at(5))
    with pytest.raises(UserError, match="another base model, other data") as caught:
        fine_tune(replace(make_job("full"), identity="other"), run)
    assert caught.value.settings == {"out": f"{run.path}-2"}


def test_other_settings_get_another_folder(tmp_path: Path) -> None:
    config = config_of("full")
    first, _ = open_fine_tuning(tmp_path / "run", config)
    again, unfinished = open_fine_tuning(tmp_path / "run", config)
    assert (again.path, unfinished) == (first.path, True)
    other, unfinished = open_fine_tuning(tmp_path / "run", config_of("full", seed=8))
    assert (other.path.name, unfinished) == ("run-2", False)
    only_planned = config_of("full", plan_only=True)
    assert open_fine_tuning(tmp_path / "run", only_planned)[0].path == first.path


def test_a_finished_run_is_not_changed(tmp_path: Path) -> None:
    first, _ = train(tmp_path / "run", make_job("full"))
    before = {file: file.stat().st_mtime_ns for file in first.path.rglob("*") if file.is_file()}
    second, _ = train(tmp_path / "run", make_job("full"))
    assert second.path.name == "run-2"
    assert before == {f: f.stat().st_mtime_ns for f in first.path.rglob("*") if f.is_file()}


def test_a_model_of_version_0_1_is_not_resumed(tmp_path: Path) -> None:
    """Its manifest has neither a start nor an end."""
    config = config_of("full")
    old, _ = open_fine_tuning(tmp_path / "run", config)
    old.write_manifest({"n_texts": 5})
    assert open_fine_tuning(tmp_path / "run", config)[0].path.name == "run-2"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_writes_a_checkpoint_and_the_next_call_continues(
    tmp_path: Path, number: signal.Signals
) -> None:
    def press(step: Step) -> None:
        if step.step == 5:
            signal.raise_signal(number)

    job = make_job("lora")
    run, _ = open_fine_tuning(tmp_path / "run", job.config)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(job, run, on_step=press)
    assert run.checkpoints()[0].name == "step-000005"
    calm, _ = train(tmp_path / "calm", make_job("lora"))
    again, trained = train(tmp_path / "run", make_job("lora"))
    assert trained.resumed_from_step == 5
    assert_same(final(calm.path), final(again.path))


def test_a_divergence_goes_back_to_a_checkpoint(tmp_path: Path) -> None:
    job = make_job("full")
    calls = iter(range(1000))

    def loss(*batch: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = job.model.loss(*batch)  # type: ignore[operator]
        return result * (float("nan") if next(calls) == 6 else 1.0)

    found: list[Finding] = []
    run, _ = open_fine_tuning(tmp_path / "run", job.config)
    trained = fine_tune(replace(job, loss=loss), run, on_finding=found.append)
    assert trained.n_steps == N_STEPS
    assert [finding.rule for finding in found] == ["finite weights"]
    assert "NaN" in found[0].message


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calm, _ = train(tmp_path / "calm", make_job("lora"))
    config = config_of("lora", keep_checkpoints=3)
    job = make_job("lora", config)
    run, _ = open_fine_tuning(tmp_path / "run", config)
    with pytest.raises(KilledError):
        fine_tune(job, run, on_step=kill_at(7))
    damaged = run.checkpoints()[0] / "trained.safetensors"
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    again, trained = train(tmp_path / "run", make_job("lora", config))
    assert str(damaged) in caplog.text
    assert trained.resumed_from_step == 4
    assert_same(final(calm.path), final(again.path))


def test_the_run_folder_is_complete(tmp_path: Path) -> None:
    run, _ = train(tmp_path / "run", make_job("full"))
    names = {path.name for path in run.path.iterdir()}
    assert names >= {"config.toml", "manifest.json", "log.txt", "metrics.jsonl", "figures"}
    assert (run.figures / "loss.svg").read_text("utf-8").startswith("<svg")
    assert "started_at" in json.loads((run.path / "manifest.json").read_text("utf-8"))


def test_the_metrics_are_written_for_tensorboard(tmp_path: Path) -> None:
    accumulator = peer("tensorboard.backend.event_processing.event_accumulator")
    job = make_job("lora", replace(config_of("lora"), tensorboard=True))
    run, _ = train(tmp_path / "run", job)
    events = accumulator.EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    steps = [event.step for event in events.Scalars("loss_nats")]
    assert steps == list(range(1, N_STEPS + 1))


def test_bf16_rounds_the_language_model_and_keeps_adapters_exact(tmp_path: Path) -> None:
    job = make_job("lora", config_of("bf16"))
    layer: Any = job.model.blocks[0].mlp.down  # type: ignore[union-attr,index]
    real: Any = job.loss
    seen: list[torch.dtype] = []

    def loss(*batch: torch.Tensor) -> torch.Tensor:
        seen.extend([layer.weight.dtype, layer.lora_a.dtype])
        result: torch.Tensor = real(*batch)
        return result

    train(tmp_path / "run", replace(job, loss=loss))
    assert seen == [torch.bfloat16, torch.float32] * N_STEPS
    assert {weight.dtype for weight in job.model.parameters()} == {torch.float32}
