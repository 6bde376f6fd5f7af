"""The loss in chunks and its gradients equal those of all logits at once."""

import subprocess
import sys

import pytest
import torch

from groundup.base.targets import IGNORE_INDEX
from groundup.model import gpu_loss
from groundup.model import loss as loss_module
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.model.gpu_loss import gpu_cross_entropy
from groundup.model.loss import cross_entropy, head_cross_entropy, head_log_probabilities
from groundup.train.optimizer import Optimizer

B, T, C, V = 3, 5, 8, 23


def example(dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(B, T, C, generator=generator, dtype=torch.float64).to(dtype)
    head = torch.randn(V, C, generator=generator, dtype=torch.float64).to(dtype)
    targets = torch.randint(V, (B, T), generator=generator)
    targets[1, 2:] = IGNORE_INDEX
    return hidden.requires_grad_(), head.requires_grad_(), targets


def log_probability(hidden, head, targets):
    counted = targets != IGNORE_INDEX
    weights = torch.linspace(1, 2, int(counted.sum()), dtype=hidden.dtype)
    return head_log_probabilities(hidden[counted], head, targets[counted]) @ weights


@pytest.fixture(params=[1, V, 4 * V, 1000 * V])
def at_once(request, monkeypatch):
    monkeypatch.setattr(loss_module, "LOGITS_AT_ONCE", min(request.param, B * T * V - 1))
    monkeypatch.setattr(loss_module, "LOGITS_BYTES", 8 * request.param)
    monkeypatch.setattr(loss_module, "_CACHED_LOGITS", 2 * V)
    monkeypatch.setattr(loss_module, "_ROWS_ADDED", 5)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_loss_and_gradients_are_those_of_all_logits(at_once, reduction):
    hidden, head, targets = example()
    wanted = cross_entropy(hidden @ head.T, targets, reduction=reduction)
    gradients = torch.autograd.grad(3 * wanted, (hidden, head))
    found = head_cross_entropy(hidden, head, targets, reduction=reduction)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-6)
    for one, other in zip(torch.autograd.grad(3 * found, (hidden, head)), gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_low_precision_is_as_good_as_with_all_logits(at_once):
    exact = example()
    loss = cross_entropy(exact[0] @ exact[1].T, exact[2])
    wanted = torch.autograd.grad(loss, exact[:2])
    errors = []
    for measure in (head_cross_entropy, lambda h, w, t: cross_entropy(h @ w.T, t)):
        hidden, head, targets = example(torch.bfloat16)
        gradients = torch.autograd.grad(measure(hidden, head, targets), (hidden, head))
        errors.append(
            max((g.double() - w).abs().max() for g, w in zip(gradients, wanted, strict=True))
        )
    assert errors[0] <= 1.5 * errors[1]


def test_a_model_with_a_tied_head_learns_the_same(monkeypatch):
    config = GPTConfig(vocab_size=V, context_length=T, d_model=C, n_layers=1, n_heads=2)
    ids = torch.arange(T + 1)[None] % V
    gradients = []
    for most in (B * T * V, 2 * V):
        monkeypatch.setattr(loss_module, "LOGITS_AT_ONCE", most)
        monkeypatch.setattr(loss_module, "LOGITS_BYTES", 4 * most)
        model = GPT(config, seed=1)
        model.loss(ids[:, :-1], ids[:, 1:]).backward()
        gradients.append(model.token_embedding.weight.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("measure", [head_cross_entropy, log_probability])
def test_a_frozen_head_gets_no_gradient(at_once, measure):
    hidden, head, targets = example()
    (wanted,) = torch.autograd.grad(measure(hidden, head, targets), hidden)
    found = measure(hidden, head.detach(), targets)
    torch.testing.assert_close(torch.autograd.grad(found, hidden)[0], wanted)


def test_without_gradients_none_are_made(at_once, monkeypatch):
    hidden, head, targets = example()
    wanted = head_cross_entropy(hidden, head, targets)
    monkeypatch.setattr(loss_module, "_plus_product", None)
    with torch.no_grad():
        found = head_cross_entropy(hidden, head, targets)
    assert not found.requires_grad
    assert found == wanted


def test_without_a_target_the_mean_is_nan_and_the_sum_is_zero(at_once):
    hidden, head, targets = example()
    targets.fill_(IGNORE_INDEX)
    assert head_cross_entropy(hidden, head, targets).isnan()
    total = head_cross_entropy(hidden, head, targets, reduction="sum")
    assert total == 0
    assert all((g == 0).all() for g in torch.autograd.grad(total, (hidden, head)))


def test_a_very_unlikely_target_has_a_finite_loss(at_once):
    hidden, head, targets = example(torch.float32)
    targets = (hidden @ head.T).argmin(dim=-1)
    far = 1000 * hidden.detach()  # the probability of the target is 0 in float32
    wanted = cross_entropy(far @ head.T, targets)
    assert wanted > 500
    torch.testing.assert_close(head_cross_entropy(far, head, targets), wanted)


@pytest.fixture(params=[7, 1000])
def gpu_rows(request, monkeypatch):
    """The loss of a GPU, in parts and at once. It pads the head, whose rows are no multiple."""
    monkeypatch.setattr(loss_module, "_takes_gpu_loss", lambda hidden: True)
    monkeypatch.setattr(gpu_loss, "gpu_loss_rows", lambda vocab_size, *, compiled: request.param)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_loss_of_a_gpu_is_that_of_all_logits(gpu_rows, reduction):
    hidden, head, targets = example()
    wanted = cross_entropy(hidden @ head.T, targets, reduction=reduction)
    gradients = torch.autograd.grad(3 * wanted, (hidden, head))
    found = head_cross_entropy(hidden, head, targets, reduction=reduction)
    torch.testing.assert_close(found, wanted)
    for one, other in zip(torch.autograd.grad(3 * found, (hidden, head)), gradients, strict=True):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        torch.testing.assert_close(
            head_cross_entropy(hidden, head, targets),
            wanted.new_tensor(float(cross_entropy(hidden @ head.T, targets))),
        )


def test_low_precision_on_a_gpu_is_as_good_as_with_all_logits(gpu_rows):
    test_low_precision_is_as_good_as_with_all_logits(None)


def test_a_frozen_head_or_input_gets_no_gradient_on_a_gpu(gpu_rows):
    hidden, head, targets = example()
    wanted = torch.autograd.grad(cross_entropy(hidden @ head.T, targets), (hidden, head))
    for place in range(2):
        given = hidden.detach(), head.detach()
        given[place].requires_grad_()
        loss = head_cross_entropy(given[0], given[1], targets)
        (found,) = torch.autograd.grad(loss, given[place])
        torch.testing.assert_close(found, wanted[place])


def test_nothing_outside_the_loss_sees_the_padding_of_a_gpu(monkeypatch):
    config = GPTConfig(vocab_size=V, context_length=T, d_model=C, n_layers=1, n_heads=2)
    ids = torch.arange(T + 1)[None] % V
    states = []
    for on_gpu in (False, True):
        monkeypatch.setattr(loss_module, "_takes_gpu_loss", lambda hidden, on_gpu=on_gpu: on_gpu)
        model = GPT(config, seed=1)
        optimizer = Optimizer(model)
        for _ in range(2):
            optimizer.zero_grad()
            model.loss(ids[:, :-1], ids[:, 1:]).backward()
            optimizer.step(1.0)
        assert model(ids[:, :-1]).shape[-1] == V
        states.append(dict(model.named_parameters()) | optimizer.state())
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_the_loss_of_a_gpu_is_one_graph_with_the_model():
    """In a process of its own: the checks of shapes that tests wear cannot be compiled."""
    code = """
import torch
from groundup.model import loss
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.train.precision import MixedPrecision
loss._takes_gpu_loss = lambda hidden: True
model = GPT(GPTConfig(vocab_size=23, context_length=8, d_model=16, n_layers=1, n_heads=2), seed=1)
ids = torch.arange(9)[None] % 23
results = []
for compiled in (False, True):
    step = MixedPrecision(model, torch.bfloat16)
    if compiled:
        step.compile(dynamic=False, fullgraph=True, backend="aot_eager")
    model.zero_grad()
    nats = step(ids[:, :-1], ids[:, 1:])
    nats.backward()
    results.append((nats.detach(), model.token_embedding.weight.grad.clone()))
torch.testing.assert_close(results[0], results[1], atol=2e-3, rtol=2e-2)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=250)


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("rows", [64, 10_000])
def test_on_a_gpu_the_gradients_are_those_of_the_cpu(monkeypatch, rows, compiled):
    monkeypatch.setattr(gpu_loss, "gpu_loss_rows", lambda vocab_size, *, compiled: rows)
    torch._dynamo.reset()
    generator = torch.Generator().manual_seed(1)
    hidden, head = (torch.randn(n, 64, generator=generator).bfloat16() for n in (200, 1000))
    targets = torch.randint(1000, (200,), generator=generator)
    targets[5:9] = IGNORE_INDEX
    exact = [tensor.float().requires_grad_() for tensor in (hidden, head)]
    wanted = cross_entropy(exact[0] @ exact[1].T, targets, reduction="sum")
    gradients = torch.autograd.grad(wanted, exact)
    given = [tensor.cuda().requires_grad_() for tensor in (hidden, head)]
    measure = torch.compile(gpu_cross_entropy, fullgraph=True) if compiled else gpu_cross_entropy
    found = measure(given[0], given[1], targets.cuda())
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-2, atol=1.0)
    for one, other in zip(torch.autograd.grad(found, given), gradients, strict=True):
        # 8 bits of each product and of its sum.
        torch.testing.assert_close(one.float().cpu(), other, rtol=2e-2, atol=0.5)
