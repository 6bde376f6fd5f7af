"""Activation checkpointing saves fewer tensors and gives the same gradients."""

import pytest
import torch

from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.train.precision import MixedPrecision

CONFIG = GPTConfig(vocab_size=17, context_length=16, d_model=32, n_layers=3, n_heads=2, dropout=0.2)


def gradients(
    dtype: torch.dtype, checkpointing: bool
) -> tuple[float, dict[str, torch.Tensor], int]:
    model = GPT(CONFIG, seed=1)
    model.activation_checkpointing = checkpointing
    kept = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    torch.manual_seed(3)
    ids = torch.randint(17, (4, 17))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = MixedPrecision(model, dtype)(ids[:, :-1], ids[:, 1:])
        before_backward = kept
    loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return loss.item(), gradients, before_backward


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_gradients_with_fewer_saved_tensors(dtype):
    loss, wanted, much = gradients(dtype, checkpointing=False)
    again, found, little = gradients(dtype, checkpointing=True)
    assert again == loss
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=0, rtol=0)
    assert little < much / 2
