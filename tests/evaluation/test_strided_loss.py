"""The strided loss: each token once, with the context of the first window that reaches it."""

import math

import numpy as np
import pytest
import torch
from decoder_models import CONFIGS, lively, text

from groundup.base.errors import UserError
from groundup.data.protocol import ArrayTokens
from groundup.evaluation.loss import evaluate_loss


@torch.inference_mode()
def brute_force(model, ids: list[int], length: int, stride: int) -> float:
    nats = 0.0
    for target in range(1, len(ids)):
        start = stride * max(0, math.ceil((target - length) / stride))
        start = min(start, max(0, len(ids) - 1 - length))  # the last window ends with the text
        logits = model(torch.tensor([ids[start:target]]))[0, -1]
        nats -= float(logits.log_softmax(-1)[ids[target]])
    return nats / (len(ids) - 1)


@pytest.mark.parametrize(("length", "stride"), [(16, 16), (16, 4), (16, 1), (48, 13), (8, 7)])
@pytest.mark.parametrize("n", [5, 60, 75])
def test_each_token_has_the_context_of_its_window(length, stride, n):
    model, ids = lively(CONFIGS["llama"]), text(n)
    for batch_size in (1, 5):
        found = evaluate_loss(
            model,
            ArrayTokens(np.array(ids)),
            context_length=length,
            stride=stride,
            batch_size=batch_size,
        )
        assert found.n_targets == n - 1
        assert found.nats == pytest.approx(brute_force(model, ids, length, stride), abs=1e-5)


def test_a_stride_longer_than_the_context_would_skip_tokens():
    tokens = ArrayTokens(np.array(text(60)))
    with pytest.raises(UserError, match="stride"):
        evaluate_loss(lively(CONFIGS["llama"]), tokens, context_length=16, stride=17)
