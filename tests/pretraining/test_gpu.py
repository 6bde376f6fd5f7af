"""On a GPU: it learns what the CPU learns, and goes on to the same bits after a kill."""

import pytest
import torch
from small_runs import (
    KilledError,
    assert_same_weights,
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
from groundup.planning.plan import plan
from groundup.pretraining.pretrain import pretrain
from groundup.train.precision import MixedPrecision

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def gpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
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


def test_plan_counts_the_gpus_memory(data):
    shown = plan(replace_settings(PlanConfig(), data=data, device="cuda", probe_s=0.5))
    assert shown.free_memory_bytes > 1e9
    assert shown.step_s > 0
