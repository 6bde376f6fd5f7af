"""On a GPU: it learns what the CPU learns, and goes on to the same bits after a kill."""

import pytest
import torch
from small_runs import (
    KilledError,
    assert_same_weights,
    final_weights,
    kill_at,
    make_documents,
    messages,
    settings,
)

from groundup.base.fields import replace_settings
from groundup.base.run import RunFolder
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.planning.config import PlanConfig
from groundup.planning.memory import count_memory
from groundup.planning.plan import plan
from groundup.pretraining.pretrain import pretrain
from groundup.train.build import prepare_training
from groundup.train.data import open_data, with_vocabulary
from groundup.train.loop import train_steps
from groundup.train.precision import MixedPrecision
from groundup.weights.checkpoint_format import load_model, stored_tensors

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def usual_algorithms():
    yield
    torch.use_deterministic_algorithms(False)


def losses(run) -> list[float]:
    return [row["loss_nats"] for row in RunFolder(run).read_metrics()]


@pytest.mark.parametrize("compiled", [False, True])
def test_the_curve_is_the_cpus(data, compiled):
    model = GPTConfig(context_length=16, d_model=16, n_layers=2, n_heads=2)
    usual = settings(data, model=model, dtype="fp32")
    curves = []
    for changes in ({"device": "cpu"}, {"device": "cuda", "compile": compiled}):
        config = replace_settings(usual, out=data.parent / changes["device"], **changes)
        curves.append(losses(pretrain(config).run))
    assert curves[1] == pytest.approx(curves[0], abs=1e-3)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("compiled", [False, True])
def test_separate_documents_have_the_curve_of_the_cpu(tmp_path, dtype, compiled):
    data = make_documents(tmp_path / "data", messages(1), messages(2, 20))
    model = GPTConfig(context_length=16, d_model=16, n_layers=2, n_heads=2)
    usual = settings(data, model=model, documents="isolated")
    curves = []
    for changes in (
        {"device": "cpu", "dtype": "fp32"},
        {"device": "cuda", "dtype": dtype, "compile": compiled},
    ):
        config = replace_settings(usual, out=tmp_path / changes["device"], **changes)
        curves.append(losses(pretrain(config).run))
    assert curves[1] == pytest.approx(curves[0], abs=1e-3 if dtype == "fp32" else 0.05)


def test_killed_and_resumed_ends_with_the_same_weights(data):
    whole = settings(data, device="cuda", deterministic=True)
    broken = settings(data, out=data.parent / "broken", device="cuda", deterministic=True)
    pretrain(whole)
    with pytest.raises(KilledError):
        pretrain(broken, kill_at(7))
    pretrain(broken)
    assert_same_weights(whole.out, broken.out)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_low_precision_is_near_full_precision(checkpointing):
    config = GPTConfig.gpt2("124M", context_length=128)
    model = GPT(config, seed=1).cuda()
    model.activation_checkpointing = checkpointing
    ids = torch.randint(config.vocab_size, (8, 129), device="cuda")  # logits in parts, too
    found = [
        MixedPrecision(model, dtype)(ids[:, :-1], ids[:, 1:])
        for dtype in (torch.float32, torch.bfloat16)
    ]
    torch.testing.assert_close(found[0], found[1], atol=0.02, rtol=0)
    found[1].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_no_step_waits_for_the_gpu(data, optimizer):
    config = settings(data, device="cuda", optimizer=optimizer, max_grad_norm=1.0, steps=8)
    setup = prepare_training(config, open_data(data))
    steps = train_steps(
        setup.loader, setup.training_loss, setup.optimizer, setup.schedule, max_grad_norm=1.0
    )
    next(steps)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = [next(steps) for _ in range(5)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(step.next_has_begun and step.loss_nats > 0 for step in found)


def test_a_checkpoint_goes_to_a_cpu_and_back(data):
    """The padding of the head is not in it: shapes and bits are those of the vocabulary."""
    model = GPTConfig(context_length=16, d_model=16, n_layers=2, n_heads=2)
    config = settings(data, model=model, device="cuda", dtype="fp32")
    run = pretrain(config).run
    stored = final_weights(run)
    here = load_model(run / "checkpoints" / "step-000012")
    assert all(torch.equal(stored[name], p) for name, p in here.named_parameters())
    there = stored_tensors(here.cuda())
    assert all(torch.equal(stored[name], tensor) for name, tensor in there.items())
    broken = replace_settings(config, out=data.parent / "there")
    with pytest.raises(KilledError):
        pretrain(broken, kill_at(7))
    # The same run, resumed on a CPU from the checkpoint of the GPU.
    (path := RunFolder(broken.out).config_path).write_text(
        path.read_text().replace('device = "cuda"', 'device = "cpu"')
    )
    assert pretrain(replace_settings(broken, device="cpu")).resumed_from_step == 5
    assert losses(broken.out) == pytest.approx(losses(run), abs=1e-3)


def test_memory_comes_out_as_planned(data):
    model = GPTConfig(context_length=256, d_model=384, n_layers=6, n_heads=6, activation="relu2")
    config = settings(data, model=model, batch_size=64, device="cuda", compile="off")
    config = with_vocabulary(config, open_data(data))
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    planned = sum(count_memory(config).values())
    assert pretrain(config).peak_memory_bytes == pytest.approx(planned, rel=0.1)


def test_plan_counts_the_gpus_memory(data):
    shown = plan(replace_settings(PlanConfig(), data=data, device="cuda", probe_s=0.5))
    assert shown.free_memory_bytes > 1e9
    assert shown.step_s > 0
