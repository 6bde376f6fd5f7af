"""What is seen inside a model is what the model does."""

import pytest
import torch

from groundup.base.errors import UserError
from groundup.inspection.capture import capture
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT

SHAPES = {
    "ours": GPTConfig(vocab_size=50, context_length=16, d_model=24, n_layers=2, n_heads=2),
    "gpt2": GPTConfig(
        vocab_size=50,
        context_length=16,
        d_model=24,
        n_layers=2,
        n_heads=3,
        norm="layer",
        positions="learned",
        qk_norm=False,
        activation="gelu",
        bias=True,
        qkv_bias=True,
        init="gpt2",
    ),
    "grouped": GPTConfig(
        vocab_size=50, context_length=16, d_model=32, n_layers=1, n_heads=4, n_kv_heads=2
    ),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_weights_are_causal_shares_and_logits_those_of_the_model(shape: GPTConfig) -> None:
    model = GPT(shape, seed=3).eval()
    torch.manual_seed(0)
    for parameter in model.parameters():  # zero initialised projections would hide everything
        parameter.data += 0.1 * torch.randn_like(parameter)
    ids = [7, 3, 3, 49, 0, 12]
    seen = capture(model, ids)
    L, H, T = shape.n_layers, shape.n_heads, len(ids)
    assert seen.attention.shape == (L, H, T, T)
    torch.testing.assert_close(seen.attention.sum(-1), torch.ones(L, H, T))
    assert (seen.attention.triu(1) == 0).all()
    with torch.no_grad():
        torch.testing.assert_close(seen.logits, model(torch.tensor([ids]))[0])


@pytest.mark.parametrize("ids", [[], list(range(17))])
def test_nothing_and_too_much_are_refused(ids: list[int]) -> None:
    with pytest.raises(UserError):
        capture(GPT(SHAPES["ours"]), ids)
