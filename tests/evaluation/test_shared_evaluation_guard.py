"""Processes that share an evaluation make as many batches each, or some would wait for ever."""

import numpy as np
import pytest
import torch

from groundup.data.windows import ArrayTokens
from groundup.evaluation.loss import evaluate_loss
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT

CONFIG = GPTConfig(vocab_size=11, context_length=4, d_model=8, n_layers=1, n_heads=1)


@pytest.mark.parametrize("n_windows", [1, 2, 4, 5, 6])
def test_each_process_makes_as_many_batches(n_windows: int) -> None:
    model = GPT(CONFIG)
    tokens = ArrayTokens(np.arange(4 * n_windows + 1) % 11)
    n_calls, n_targets = [0, 0, 0], 0.0
    for rank in range(3):

        def counted(ids: torch.Tensor, targets: torch.Tensor, *, reduction, rank=rank):
            n_calls[rank] += 1
            return model.loss(ids, targets, reduction=reduction)

        def kept(nats: float, n: int, n_bytes: int) -> list[float]:
            nonlocal n_targets
            n_targets += n
            return [1.0, 1.0, 0.0]

        evaluate_loss(
            model, tokens, batch_size=1, loss=counted, rank=rank, world_size=3, add_up=kept
        )
    assert n_calls == [-(-n_windows // 3)] * 3
    assert n_targets == 4 * n_windows
