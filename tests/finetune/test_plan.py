"""The cost of a fine-tuning run before it starts, and budgets of time."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_jobs import MODEL, N_STEPS, config_of, make_job, random_rows, train
from torch import nn

from groundup.base.errors import UserError
from groundup.base.run import RunFolder
from groundup.finetune import budget, memory, training
from groundup.finetune.batches import RowBatches
from groundup.finetune.job import FineTuning
from groundup.finetune.memory import checkpoint_bytes
from groundup.finetune.plan import count_batches, measure_steps, plan_fine_tuning
from groundup.model.count import Memory, memory_bytes
from groundup.model.gpt import GPT
from groundup.train.optimizer import Optimizer, OptimizerConfig


@pytest.fixture(autouse=True)
def _old_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The age of the process of the tests does not count."""
    monkeypatch.setattr(budget, "process_age_s", lambda: 1e6)


def true_counts(job: FineTuning) -> tuple[int, int]:
    """Tokens and targets of all steps, from the rows themselves."""
    batches: Any = job.batches
    rows = [batches.rows[i] for k in range(job.n_steps) for i in batches.row_numbers(k)]
    n_targets = sum(target != -100 for _, targets in rows for target in targets)
    return sum(len(ids) for ids, _ in rows), n_targets


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_the_plan_counts_tokens_and_trained_tokens(layout: Any) -> None:
    job = make_job("lora")
    batches = RowBatches(random_rows(20, 1), 4, seed=4, layout=layout)
    job = replace(job, batches=batches)
    plan = plan_fine_tuning(replace(job, loss=lambda ids, targets, *_: _loss(job, ids, targets)))
    assert (plan.n_tokens, plan.n_targets) == true_counts(job)
    assert plan.n_steps == N_STEPS
    trained = sum(p.numel() for p in job.model.parameters() if p.requires_grad)
    assert plan.n_trained_parameters == trained < plan.n_parameters / 2
    low, expected, high = plan.total_s
    assert 0 < low < expected < high
    assert plan.peak_memory_bytes > 1e8


def _loss(job: FineTuning, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    loss: torch.Tensor = job.model.loss(ids[:, :16], targets[:, :16])  # type: ignore[operator]
    return loss


def test_the_size_of_a_checkpoint_is_that_on_the_disk(tmp_path: Path) -> None:
    for kind in ("full", "lora", "muon"):
        job = make_job(kind)
        expected = checkpoint_bytes(job)
        run, _ = train(tmp_path / kind, job)
        checkpoint = run.checkpoints()[0]
        on_disk = sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))
        assert expected < on_disk < expected + 60_000  # names, random state, counts of steps


def test_only_layers_with_something_to_train_below_them_store_activations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "memory_in_use_bytes", lambda device: 0)

    def of_step(job: FineTuning) -> int:
        trained = sum(p.numel() for p in job.model.parameters() if p.requires_grad)
        total = memory.count_memory(job, 4, 16, activation_checkpointing=False)
        return total - 4 * trained - 2 * checkpoint_bytes(job)

    def expected(n_layers: int) -> Memory:
        return memory_bytes(replace(MODEL, n_layers=n_layers), 4, context_length=16, on_cpu=True)

    last = make_job("partial")
    for job, n_layers in ((make_job("full"), 3), (make_job("lora"), 3), (last, 1)):
        step = expected(n_layers)
        assert of_step(job) == step.activations_bytes + step.logits_bytes
    assert of_step(replace(last, computes_logits=False)) == expected(1).activations_bytes


def test_a_measurement_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    plain, _ = train(tmp_path / "plain", make_job("lora"))
    job = make_job("lora")
    before = {name: weight.clone() for name, weight in job.model.named_parameters()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    measure_steps(job, count_batches(job))
    assert torch.equal(torch.get_rng_state(), state)
    for name, weight in job.model.named_parameters():
        assert torch.equal(weight, before[name]), name
        assert weight.grad is None
    measured, _ = train(tmp_path / "measured", job)
    for each in ("final.safetensors",):
        assert (plain.path / each).read_bytes() == (measured.path / each).read_bytes()


def test_a_budget_that_is_long_enough_changes_nothing(tmp_path: Path) -> None:
    plain, _ = train(tmp_path / "plain", make_job("full"))
    job = make_job("full", config_of("full", budget="10m"))
    run, trained = train(tmp_path / "run", job)
    assert (trained.stopped_reason, trained.n_steps) == ("steps", N_STEPS)
    assert (plain.path / "final.safetensors").read_bytes() == (
        run.path / "final.safetensors"
    ).read_bytes()


def test_a_budget_trains_no_more_steps_than_asked_for() -> None:
    config = config_of("full", budget="10m")
    assert training._trainer_job(make_job("full", config), time.monotonic()).most_steps == N_STEPS


def slow(job: FineTuning, seconds: float) -> Callable[..., torch.Tensor]:
    def loss(*batch: torch.Tensor) -> torch.Tensor:
        time.sleep(seconds)
        result: torch.Tensor = job.loss(*batch)
        return result

    return loss


def test_a_budget_ends_in_time_and_is_resumed_by_the_clock(tmp_path: Path) -> None:
    config = config_of("full", budget="6s", steps=10_000)
    job = make_job("full", config)
    began_at = time.monotonic()
    run, trained = train(
        tmp_path / "run", replace(job, loss=slow(job, 0.02), after_s=1.0, started_at=began_at)
    )
    assert trained.stopped_reason == "budget"
    assert 10 < trained.n_steps < 10_000
    assert time.monotonic() - began_at < 9.0  # 6 s, less the tests, on a busy machine
    assert trained.elapsed_s < 4.5
    rows = run.read_metrics()
    assert rows[-1]["learning_rate"] < 0.2 * max(row["learning_rate"] for row in rows)


def test_a_budget_with_time_left_says_that_all_steps_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "seconds_for_steps", lambda *_, **__: 9.0)
    job = make_job("full", config_of("full", budget="10m"))
    _, trained = train(tmp_path / "run", job)
    assert (trained.n_steps, trained.stopped_reason) == (N_STEPS, "steps")


def test_checkpoints_follow_the_number_of_steps_that_a_budget_allows() -> None:
    job = make_job("full", config_of("full", budget="6s", steps=100_000))
    n_steps, step_s = budget.steps_within_budget(replace(job, loss=slow(job, 0.05)))
    assert 0.05 < step_s < 2.0
    assert n_steps == int(6.0 / step_s)
    assert budget.steps_within_budget(make_job("full")) == (N_STEPS, 0.0)


def test_the_start_of_a_process_counts_where_it_was_started_for_the_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = make_job("full", config_of("full", budget="60s", steps=100_000))
    left_s = []
    for age_s in (1e6, 20.0):
        monkeypatch.setattr(budget, "process_age_s", lambda age_s=age_s: age_s)
        found = budget.seconds_for_steps(
            job, step_s=1.0, started_at=time.monotonic(), validation_s=0.0, n_validations=0
        )
        assert found is not None
        left_s.append(found)
    assert left_s[0] - left_s[1] == pytest.approx(20.0, abs=1.0)


def test_a_budget_that_is_too_short_is_refused(tmp_path: Path) -> None:
    job = make_job("full", config_of("full", budget="2s"))
    with pytest.raises(UserError, match="Of the budget of 2s") as caught:
        train(tmp_path / "run", replace(job, loss=slow(job, 0.3), after_s=60.0))
    assert caught.value.settings == {"budget": "2m"}
    with pytest.raises(UserError, match="time span"):
        train(tmp_path / "run", make_job("full", config_of("full", budget="soon")))


def test_what_does_not_fit_in_memory_is_refused_with_settings_that_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "memory_in_use_bytes", lambda device: 0)
    job = make_job("full")
    width = max(job.batches.batch(k)[0].shape[1] for k in range(N_STEPS))
    whole, half = (
        memory.count_memory(job, n, width, activation_checkpointing=False) for n in (4, 2)
    )
    fits = (whole + half) / 2
    monkeypatch.setattr(memory, "usable_memory_bytes", lambda device: fits / 1.3)
    with pytest.raises(UserError, match="of memory") as caught:
        train(tmp_path / "run", job)
    assert caught.value.settings == {"grad_accumulation_steps": 2}


def test_a_full_disk_is_refused_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_disk_bytes", lambda folder: 1000)
    with pytest.raises(UserError, match="A checkpoint takes"):
        train(tmp_path / "run", make_job("full"))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.slow
@pytest.mark.alone
def test_the_predicted_time_is_that_of_the_run(tmp_path: Path) -> None:
    """The median of three rounds, because other programs take time on a shared machine."""

    def job() -> FineTuning:
        settings = {"steps": 75, "batch_size": 16, "checkpoint_every": None, "threads": None}
        config = config_of("full", **settings)
        made = make_job("full", config)
        model = GPT(replace(MODEL, d_model=128, n_layers=4, context_length=64), seed=1)
        rows = [
            (ids * (1 + i % 4), targets * (1 + i % 4))
            for i, (ids, targets) in enumerate(random_rows(200, 3))
        ]
        return replace(
            made,
            model=model,
            loss=model.loss,
            optimizer=Optimizer(model, OptimizerConfig(name="adamw", learning_rate=1e-3)),
            batches=RowBatches(rows, 16, seed=2),
            validate=None,
        )

    ratios = []
    for _ in range(3):
        plan = plan_fine_tuning(job())
        before = time.monotonic()
        training.fine_tune(job(), RunFolder.create(tmp_path / "run"))
        ratios.append((plan.total_s[1] - plan.start_s) / (time.monotonic() - before))
    assert statistics.median(ratios) == pytest.approx(1, rel=0.2), ratios


def test_modules_without_a_language_model_are_trained_too(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)

    class Points:
        def batch(self, k: int) -> tuple[torch.Tensor, ...]:
            generator = torch.Generator().manual_seed(k)
            x = torch.randn(8, 3, generator=generator)
            return x, (x.sum(dim=1) > 0).long()

    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(model(x), y)

    config = config_of("full", learning_rate=0.1, steps=40)
    job = FineTuning(
        model=model,
        loss=loss,
        batches=Points(),
        optimizer=Optimizer(model, OptimizerConfig(name="adamw", learning_rate=0.1)),
        n_steps=40,
        config=config,
        count=lambda batch: len(batch[0]),
    )
    _, trained = train(tmp_path / "run", job)
    x, y = Points().batch(1_000)
    assert loss(x, y).item() < 0.35
    assert trained.n_steps == 40
