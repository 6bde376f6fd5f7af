"""Several processes train the model that one process trains."""

import string
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_runs import make_data, make_documents, messages, prose
from torch import distributed
from torchrun import curve, run

from groundup.base.results import read_results
from groundup.evaluation.load import load
from groundup.train.checkpoint import find_latest
from groundup.train.distributed import World


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> list[float]:
    folder = tmp_path_factory.mktemp("alone")
    make_data(folder / "data")
    return curve(run(folder, 1))


@pytest.mark.parametrize(
    ("kind", "n"),
    [
        ("fsdp", 2),
        pytest.param("fsdp", 4, marks=pytest.mark.slow),
        pytest.param("ddp", 2, marks=pytest.mark.slow),
    ],
)
def test_the_loss_curve_is_that_of_one_process(folder, alone, kind, n):
    out = run(folder, n, parallel=kind, torchrun=n == 2)
    assert curve(out) == pytest.approx(alone, abs=1e-5)
    # What is left is an ordinary run: whole files that anybody opens.
    assert {path.name for path in (out / "checkpoints").glob("*/*")} == {
        "model.json",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    }
    assert load(out).model.config.d_model == 16
    assert [path.name for path in sorted((out / "samples").iterdir())] == [
        "step-000006.txt",
        "step-000012.txt",
    ]


@pytest.mark.slow
def test_rows_that_the_number_of_processes_does_not_divide(tmp_path):
    make_data(tmp_path / "data")
    wishes: dict[str, Any] = {"batch_size": 6, "model": {"layers": "wd", "window": 4}}
    alone = curve(run(tmp_path, 1, **wishes))
    assert curve(run(tmp_path, 3, parallel="fsdp", **wishes)) == pytest.approx(alone, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_separate_documents_and_mixtures(tmp_path, kind):
    """Also where the part of a process has no target: most documents have one token."""
    for name, seed in (("data", 1), ("other", 3)):
        short = [*messages(seed, 12), *(c for c in prose(seed, 40))]
        make_documents(tmp_path / name, short, messages(seed + 1, 9), letters=string.printable)
    mix = [f"{tmp_path / 'data'}=2,{tmp_path / 'other'}=1"]
    wishes: dict[str, Any] = {"documents": "isolated", "coverage": "exact", "mix": mix}
    alone = curve(run(tmp_path, 1, **wishes))
    parts = run(tmp_path, 2, parallel=kind, grad_accumulation_steps=2, **wishes)
    assert curve(parts) == pytest.approx(alone, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_micro_batches_and_recomputing_change_nothing(folder, alone, kind):
    out = run(folder, 2, parallel=kind, grad_accumulation_steps=2, activation_checkpointing=True)
    assert curve(out) == pytest.approx(alone, abs=1e-5)


@pytest.mark.slow
def test_saved_on_four_goes_on_on_two_and_then_alone(folder, alone):
    out = str(folder / "run")
    run(folder, 4, parallel="fsdp", out=out, stop_at=6, fails=True)
    first = find_latest(Path(out) / "checkpoints")
    run(folder, 2, parallel="fsdp", out=out, stop_at=11, fails=True)
    assert first.name < find_latest(Path(out) / "checkpoints").name < "step-000011"
    assert curve(run(folder, 1, parallel="fsdp", out=out)) == pytest.approx(alone, abs=1e-5)


@pytest.mark.slow
def test_saved_alone_goes_on_in_parts(folder, alone):
    out = str(folder / "run")
    run(folder, 1, parallel="fsdp", out=out, stop_at=6, fails=True)
    assert curve(run(folder, 2, parallel="fsdp", out=out)) == pytest.approx(alone, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_a_worker_is_killed_and_the_job_goes_on(folder, alone, kind):
    out = run(folder, 2, parallel=kind, kill=1, torchrun=True, restarts=1)
    assert (folder / "killed").exists()
    assert curve(out) == pytest.approx(alone, abs=1e-5)
    assert read_results(out)["pretrain"]["resumed_from_step"] >= 4


@pytest.mark.slow
def test_the_optimiser_of_four_is_that_of_one(folder):
    wanted = load_file(run(folder, 1) / "checkpoints" / "step-000012" / "optimizer.safetensors")
    parts = run(folder, 4, parallel="fsdp") / "checkpoints" / "step-000012"
    found = load_file(parts / "optimizer.safetensors")
    assert wanted.keys() - found.keys() == {"random/cpu"}
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, wanted[name], atol=1e-5, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_each_process_drops_other_activations_and_low_precision_learns(folder, kind):
    out = run(folder, 2, parallel=kind, dtype="bf16", model={"dropout": 0.1})
    losses = curve(out)
    assert losses[11] < losses[0] - 0.5


def test_gradients_are_kept_once():
    """They are views of the buffer that is sent, also in the steps after the first one."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        world = World()
        world.size = 2  # as the group of several processes
        model = torch.nn.Linear(3, 2)
        loss = world.average_gradients(model)
        for _ in range(2):
            model.zero_grad()
            loss(torch.ones(1, 3)).sum().backward()
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            assert len({gradient.untyped_storage().data_ptr() for gradient in gradients}) == 1
            assert torch.equal(gradients[0], torch.ones(2, 3))
    finally:
        distributed.destroy_process_group()
