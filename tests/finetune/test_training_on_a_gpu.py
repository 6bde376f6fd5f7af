"""Fine-tuning on a GPU: it learns what the CPU learns, and resumes where it was interrupted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from finetune_jobs import KINDS, MODEL, N_STEPS, config_of, make_job, train
from small_runs import KilledError, kill_at

from groundup.base.run import RunFolder
from groundup.finetune.batch_stream import BatchStream
from groundup.finetune.plan import plan_fine_tuning
from groundup.finetune.training import fine_tune, open_fine_tuning

pytestmark = pytest.mark.gpu


def losses(run: RunFolder) -> list[float]:
    return [row["loss_nats"] for row in run.read_metrics()]


def test_the_curve_is_that_of_the_cpu(tmp_path: Path) -> None:
    curves = []
    for device in ("cpu", "cuda"):
        job = make_job("muon", config_of("muon", device=device))
        model: Any = job.model
        model.config = replace(MODEL, dropout=0.0)
        for module in model.modules():
            if hasattr(module, "dropout"):
                module.dropout = 0.0
        curves.append(losses(train(tmp_path / device, job)[0]))
    assert curves[1][:4] == pytest.approx(curves[0][:4], abs=1e-3)
    assert curves[1] == pytest.approx(curves[0], rel=2e-3)  # roundings grow from step to step


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_has_every_step(tmp_path: Path, kind: str) -> None:
    config = config_of(kind, device="cuda")
    whole, _ = train(tmp_path / "whole", make_job(kind, config))
    job = make_job(kind, config)
    run, _ = open_fine_tuning(tmp_path / "run", config)
    with pytest.raises(KilledError):
        fine_tune(job, run, on_step=kill_at(7))
    again, trained = train(tmp_path / "run", make_job(kind, config))
    assert (trained.resumed_from_step, trained.n_steps) == (6, N_STEPS)
    # The sums of a GPU may be added up in another order.
    assert losses(again) == pytest.approx(losses(whole), abs=0.02)


def test_batches_are_on_the_gpu_and_the_plan_counts_its_memory() -> None:
    job = make_job("lora", config_of("bf16", device="cuda"))
    batch = next(BatchStream(job.batches, job.optimizer.watched.device))
    assert {tensor.device.type for tensor in batch} == {"cuda"}
    plan = plan_fine_tuning(job)
    assert 1e4 < plan.peak_memory_bytes < 1e9
