from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from groundup.base.errors import UserError
from groundup.base.fields import field_kinds
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.train.muon import Muon
from groundup.train.optimizer import Optimizer, OptimizerConfig


class Tiny(nn.Module):
    """Parts named as in the real model: a table, matrices of two shapes, a gain, a bias."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.token_embedding = nn.Embedding(7, 6)
        self.a = nn.Linear(6, 6)
        self.b = nn.Linear(6, 12, bias=False)
        self.c = nn.Linear(12, 6, bias=False)
        self.norm = nn.LayerNorm(6, bias=False)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(generator=generator)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.token_embedding(ids)
        return self.norm(self.c(torch.tanh(self.b(torch.tanh(self.a(x))))))


def config(**changes) -> OptimizerConfig:
    """One rate for all parameters and no decay, unless changed."""
    usual = {"embedding_learning_rate": None, "norm_learning_rate": None, "weight_decay": 0.0}
    return OptimizerConfig(**{**usual, **changes})


def fill_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_muon_equals_torch_muon(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("groundup.train.muon._MARGIN", 1.0)
    ours, theirs = Tiny(), Tiny()
    mine = Muon(
        {n: p for n, p in ours.named_parameters() if n in ("a.weight", "b.weight", "c.weight")},
        weight_decay=0.1,
    )
    mine._dtype = torch.bfloat16  # as torch's does on any processor
    mine._coefficients = ((3.4445, -4.7750, 2.0315),) * 5  # torch's, the same at every step
    matrices = [theirs.a.weight, theirs.b.weight, theirs.c.weight]
    reference = torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1)
    for seed in range(5):
        fill_gradients(ours, seed)
        fill_gradients(theirs, seed)
        mine.step(0.02)
        reference.step()
    for name in ("a", "b", "c"):
        difference = getattr(ours, name).weight - getattr(theirs, name).weight
        # Five steps of 0.02 in bfloat16 products: 8 bits of each update of length about 0.02.
        assert difference.abs().max() < 5 * 0.02 * 2**-6


def test_each_head_and_each_half_of_a_gate_is_moved_as_a_matrix_of_its_own() -> None:
    model = GPT(GPTConfig(vocab_size=7, d_model=32, n_layers=1, n_heads=4, context_length=8))
    optimizer = Optimizer(model, config(learning_rate=1.0))
    fill_gradients(model, 1)
    block: Any = model.blocks[0]
    qkv, up = block.attention.qkv.weight, block.mlp.up.weight
    before = qkv.detach().clone(), up.detach().clone()
    optimizer.step(1.0)
    heads = (qkv.detach() - before[0]).view(12, 8, 32)
    halves = (up.detach() - before[1]).view(2, -1, 32)
    # The rate grows with the root of how much taller than wide a matrix is: a half, not the whole.
    for moved, length in ((heads, 1.0), (halves, (halves.shape[1] / 32) ** 0.5)):
        strengths = torch.linalg.svdvals(moved) / length
        assert strengths.min() > 0.75
        assert strengths.max() < 1.2


def test_adamw_kind_equals_torch_adamw():
    ours, theirs = Tiny(), Tiny()
    mine = Optimizer(ours, config(name="adamw", learning_rate=0.01, weight_decay=0.1))
    decayed = [p for p in theirs.parameters() if p.ndim == 2]
    plain = [p for p in theirs.parameters() if p.ndim == 1]
    reference = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        lr=0.01,
        betas=(0.9, 0.95),
        eps=1e-10,
    )
    for seed in range(5):
        fill_gradients(ours, seed)
        fill_gradients(theirs, seed)
        mine.step(1.0)
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


def test_adamw_has_one_learning_rate_for_all_parameters():
    size = GPTConfig(vocab_size=9, context_length=4, d_model=8, n_layers=1, n_heads=1)
    model = GPT(replace(size, ngram=3, ngram_rows=64, tie_embeddings=False), seed=1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = Optimizer(model, config(name="adamw", learning_rate=0.01, weight_decay=0.0))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(1.0)
    for name, parameter in model.named_parameters():
        moved = before[name] - parameter.detach()
        torch.testing.assert_close(moved, torch.full_like(moved, 0.01), msg=name)


@pytest.mark.parametrize("kind", field_kinds(OptimizerConfig)["name"].choices)
def test_state_goes_on_bit_for_bit(kind):
    def run(stop_after: int | None) -> list[torch.Tensor]:
        model = Tiny()
        optimizer = Optimizer(model, config(name=kind, learning_rate=0.05))
        for seed in range(6):
            if seed == stop_after:
                state = {name: value.clone() for name, value in optimizer.state().items()}
                optimizer = Optimizer(model, config(name=kind, learning_rate=0.05))
                optimizer.load_state(state)
            fill_gradients(model, seed)
            optimizer.step(1.0 - seed / 10)
        return [p.detach() for p in model.parameters()]

    for a, b in zip(run(None), run(3), strict=True):
        assert torch.equal(a, b)


def test_each_kind_of_parameter_has_its_rate():
    model = Tiny()
    rates = config(learning_rate=0.01, embedding_learning_rate=0.1, norm_learning_rate=0.001)
    optimizer = Optimizer(model, rates)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    fill_gradients(model, 0)
    optimizer.step(0.5)
    moved = {n: (p - before[n]).abs().mean().item() for n, p in model.named_parameters()}
    # AdamW's first step has the length of its rate at every number.
    assert moved["token_embedding.weight"] == pytest.approx(0.05, rel=1e-3)
    assert moved["norm.weight"] == pytest.approx(0.0005, rel=1e-3)
    assert moved["a.bias"] == pytest.approx(0.0005, rel=1e-3)
    assert 0 < moved["a.weight"] < 0.005


def test_frozen_parameters_stay():
    model = Tiny()
    model.b.weight.requires_grad_(False)
    optimizer = Optimizer(model)
    before = model.b.weight.clone()
    fill_gradients(model, 0)
    optimizer.step(1.0)
    assert torch.equal(model.b.weight, before)


def test_refuses_bad_settings():
    with pytest.raises(UserError, match=r"learning_rate is -1\.0"):
        OptimizerConfig(learning_rate=-1.0)
    model = Tiny()
    model.requires_grad_(False)
    with pytest.raises(UserError, match="frozen"):
        Optimizer(model)


def test_refuses_the_state_of_another_model():
    optimizer = Optimizer(Tiny())
    with pytest.raises(UserError, match="does not fit"):
        Optimizer(nn.Linear(3, 3)).load_state(optimizer.state())


@pytest.mark.parametrize("rates", [{"embedding_learning_rate": 0.01}, {"head_learning_rate": 0.01}])
def test_a_wider_head_of_its_own_moves_less_so_that_logits_move_alike(
    rates: dict[str, float],
) -> None:
    moved = {}
    for width in (64, 128, 512):
        shape = GPTConfig(
            vocab_size=7,
            d_model=width,
            n_layers=1,
            n_heads=4,
            context_length=8,
            tie_embeddings=False,
        )
        model = GPT(shape)
        optimizer = Optimizer(model, config(**{"embedding_learning_rate": 0.5, **rates}))
        table = model.token_embedding.weight.detach().clone()
        model.loss(torch.arange(7)[None], torch.arange(7)[None].roll(-1, 1)).backward()
        optimizer.step(1.0)
        # The head starts at zero, and AdamW's first step is as long as its rate in every number.
        moved[width] = model.head.weight.abs().max().item()
        assert (model.token_embedding.weight - table).abs().max().item() < 1e-6  # no gradient yet
    assert moved[128] == pytest.approx(0.01, rel=1e-3)
    assert moved[64] == pytest.approx(0.02, rel=1e-3)
    assert moved[512] == pytest.approx(0.0025, rel=1e-3)


@pytest.mark.parametrize("kind", field_kinds(OptimizerConfig)["name"].choices)
def test_a_gradient_that_is_not_finite_leaves_the_weights_finite(kind):
    """A GPU finds out later; the flag is on the device."""
    model, plain = Tiny(), Tiny()
    optimizer = Optimizer(model, config(name=kind, learning_rate=0.05))
    reference = Optimizer(plain, config(name=kind, learning_rate=0.05))
    for side, step in ((model, optimizer), (plain, reference)):
        fill_gradients(side, 1)
        step.step(1.0, torch.tensor(True) if side is model else None)
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)
    before = [p.detach().clone() for p in model.parameters()]
    fill_gradients(model, 2)
    for parameter in model.parameters():
        assert parameter.grad is not None
        parameter.grad[0] = torch.nan
    optimizer.step(1.0, torch.tensor(False))
    assert optimizer.weights_are_finite()
    if kind == "adamw":
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))


def test_compiled_muon_makes_the_same_steps(monkeypatch):
    n_compiled = 0

    def compile_(function, **options):
        nonlocal n_compiled
        n_compiled += 1
        return lambda *arguments, **settings: function(*arguments, **settings)

    monkeypatch.setattr(torch, "compile", compile_)
    models = Tiny(), Tiny()
    optimizers = [
        Optimizer(m, config(), compiled=c) for m, c in zip(models, (False, True), strict=True)
    ]
    assert n_compiled == 2
    for seed in range(3):
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.compile_now()  # changes nothing
            fill_gradients(model, seed)
            optimizer.step(1.0)
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(a, b)
