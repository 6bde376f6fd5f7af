"""The time of steps that a rollback throws away was spent all the same."""

import math

import torch
from small_runs import settings

from groundup.pretraining.pretrain import pretrain
from groundup.train.precision import MixedPrecision


def test_the_time_of_lost_steps_counts(data, monkeypatch, clock):
    plain, n_calls = MixedPrecision.forward, 0

    def diverging(self, ids, targets, reduction="mean"):
        nonlocal n_calls
        loss = plain(self, ids, targets, reduction=reduction)
        if not torch.is_grad_enabled():
            return loss
        n_calls += 1
        clock.advance(10.0)
        return loss * math.nan if n_calls == 15 else loss

    monkeypatch.setattr(MixedPrecision, "forward", diverging)
    config = settings(data, steps=20, checkpoint_every=10, validate_every=None, sample_every=None)
    result = pretrain(config)
    assert n_calls == 25  # steps 11 to 14 were made again, the one that diverged as well
    assert 10.0 * 24 <= result.elapsed_s < 10.0 * 26
