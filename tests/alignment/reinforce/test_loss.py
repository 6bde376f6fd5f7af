"""The loss of GRPO is that of trl on the same log-probabilities."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peers import peer
from torch import Tensor

from groundup.alignment.reinforce.loss import advantages, policy_loss

B, T, PROMPT = 6, 9, 4


def example() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-probabilities, targets with replies of several lengths, advantages, reference."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(50, (B, T), generator=generator)
    targets[:, : PROMPT - 1] = -100
    for row in range(B):
        targets[row, PROMPT + row % 4 + 1 :] = -100
    log_probabilities = -3 * torch.rand(B, T, generator=generator)
    reference = log_probabilities + 0.3 * torch.randn(B, T, generator=generator)
    weights = torch.randn(B, generator=generator)
    return log_probabilities.masked_fill(targets == -100, 0.0), targets, weights, reference


@pytest.mark.parametrize("kl_weight", [0.0, 0.1])
def test_loss_and_gradient_are_those_of_trl(kl_weight: float) -> None:
    trl = peer("trl")
    log_probabilities, targets, weights, reference = example()
    n_new = T - PROMPT + 1
    ours, theirs = (log_probabilities.clone().requires_grad_() for _ in range(2))
    loss = policy_loss(
        ours, targets, weights, max_new_tokens=n_new, reference=reference, kl_weight=kl_weight
    )
    loss.backward()

    def per_token(*_: Any, **__: Any) -> tuple[Tensor, Tensor, None]:
        return theirs[:, PROMPT - 1 :], torch.zeros(B, n_new), None

    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=per_token,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        loss_type="dr_grpo",
        epsilon_low=0.2,
        epsilon_high=0.2,
        beta=kl_weight,
        use_vllm=False,
        max_completion_length=n_new,
        current_gradient_accumulation_steps=1,
        aux_loss_enabled=False,
        _entropy_bonus_enabled=False,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False),
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(gather=lambda x: x, reduce=lambda x, reduction: x),
        _metrics={"train": _Lists()},
    )
    mask = (targets != -100)[:, PROMPT - 1 :]
    inputs = {
        "prompt_ids": torch.zeros(B, PROMPT, dtype=torch.long),
        "prompt_mask": torch.ones(B, PROMPT, dtype=torch.long),
        "completion_ids": torch.zeros(B, n_new, dtype=torch.long),
        "completion_mask": mask.long(),
        "advantages": weights,
        "ref_per_token_logps": reference[:, PROMPT - 1 :],
    }
    expected = trl.GRPOTrainer._compute_loss(trainer, None, inputs)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=0)


class _Lists(dict):
    def __missing__(self, key: str) -> list[float]:
        return self.setdefault(key, [])


def test_the_gradient_is_advantage_over_a_constant_for_each_token() -> None:
    log_probabilities, targets, weights, _ = example()
    log_probabilities.requires_grad_()
    policy_loss(log_probabilities, targets, weights, max_new_tokens=20).backward()
    expected = -weights[:, None] / (B * 20) * (targets != -100)
    torch.testing.assert_close(log_probabilities.grad, expected)


def test_advantages_of_nearly_equal_groups_are_small_unless_divided() -> None:
    rewards = torch.tensor([[0.0, 0.0, 0.0, 1e-3], [1.0, 0.0, 1.0, 0.0]])
    plain, divided = advantages(rewards), advantages(rewards, divide_by_std=True)
    torch.testing.assert_close(plain, rewards - rewards.mean(1, keepdim=True))
    std = rewards.std(1, keepdim=True)
    torch.testing.assert_close(divided, plain / (std + 1e-4))
    assert plain[0].abs().max() < 1e-3
    assert divided[0].abs().max() > 1
    assert torch.equal(advantages(torch.ones(2, 4), divide_by_std=True), torch.zeros(2, 4))
