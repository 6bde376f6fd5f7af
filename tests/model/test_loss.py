"""The loss in chunks and its gradients equal those of all logits at once."""

import pytest
import torch

from groundup.base.targets import IGNORE_INDEX
from groundup.model import loss as loss_module
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.model.loss import cross_entropy, head_cross_entropy, head_log_probabilities

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


def test_without_gradients_none_are_made(at_once):
    hidden, head, targets = example()
    with torch.no_grad():
        found = head_cross_entropy(hidden, head, targets)
    assert not found.requires_grad
