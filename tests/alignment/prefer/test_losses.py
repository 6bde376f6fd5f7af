"""The losses against those of trl on the same log-probabilities."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peers import peer

from groundup.alignment.prefer.losses import PairLogProbabilities, preference_losses


def drawn(n: int, seed: int) -> PairLogProbabilities:
    generator = torch.Generator().manual_seed(seed)
    policy, noise = (-60 * torch.rand(n, 2, generator=generator, dtype=torch.float64) for _ in "pr")
    n_tokens = torch.randint(1, 40, (n, 2), generator=generator)
    return PairLogProbabilities(policy, policy + noise / 10 + 3, n_tokens)


def loss_of_trl(
    pairs: PairLogProbabilities, name: str, beta: float, smoothing: float, sft_weight: float = 0.0
) -> float:
    """Call trl's own loss with a model whose log-probabilities are those of the pairs."""
    trl = peer("trl")
    n, longest = len(pairs.policy), int(pairs.n_tokens.max())
    place = torch.arange(longest + 1)
    mask = torch.cat([(place > 0) & (place <= pairs.n_tokens[:, s, None]) for s in (0, 1)]).long()
    # The sum of a row of equal log-probabilities is the one of the answer.
    log_probs = torch.cat([pairs.policy[:, s] / pairs.n_tokens[:, s] for s in (0, 1)])[:, None]
    log_probs = log_probs * mask[:, 1:]  # (2 n, T)
    zeros = torch.zeros_like(log_probs)

    def model(**_: Any) -> SimpleNamespace:
        return SimpleNamespace(
            log_probs=log_probs, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool()
        )

    model.training = False  # type: ignore[attr-defined]
    lists: dict[str, list[float]] = {}
    trainer = SimpleNamespace(
        model=model,
        accelerator=SimpleNamespace(
            device="cpu",
            gather=lambda x: x,
            gather_for_metrics=lambda x: x,
            autocast=nullcontext,
        ),
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[name, "sft"],
        loss_weights=[1.0, sft_weight],
        beta=beta,
        label_smoothing=smoothing,
        use_weighting=False,
        _metrics={"eval": _Lists(lists)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    inputs = {
        "input_ids": torch.zeros(2 * n, longest + 1, dtype=torch.long),
        "attention_mask": torch.ones(2 * n, longest + 1),
        "completion_mask": mask,
        "ref_chosen_logps": pairs.reference[:, 0],
        "ref_rejected_logps": pairs.reference[:, 1],
    }
    return float(trl.DPOTrainer._compute_loss(trainer, model, inputs, False))


class _Lists(dict[str, list[float]]):
    def __missing__(self, key: str) -> list[float]:
        self[key] = []
        return self[key]


@pytest.mark.parity
@pytest.mark.parametrize("beta", [0.05, 0.1, 1.0])
@pytest.mark.parametrize(
    ("name", "smoothing"), [("sigmoid", 0.0), ("ipo", 0.0), ("sigmoid_norm", 0.0), ("robust", 0.2)]
)
def test_losses_are_those_of_trl(name: Any, smoothing: float, beta: float) -> None:
    pairs = drawn(9, seed=3)
    ours = preference_losses(pairs, name, beta=beta, label_smoothing=smoothing).mean()
    assert float(ours) == pytest.approx(loss_of_trl(pairs, name, beta, smoothing), abs=1e-6)


@pytest.mark.parity
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_conservative_dpo_is_that_of_trl(smoothing: float) -> None:
    """trl sorts a batch for "aot_unpaired"; with a single pair that is conservative DPO."""
    for seed in range(5):
        pairs = drawn(1, seed=seed)
        ours = preference_losses(pairs, "sigmoid", beta=0.1, label_smoothing=smoothing).mean()
        theirs = loss_of_trl(pairs, "aot_unpaired", 0.1, smoothing)
        assert float(ours) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parity
@pytest.mark.parametrize("sft_weight", [0.3, 1.0])
def test_the_loss_of_the_chosen_answer_is_that_of_trl(sft_weight: float) -> None:
    """trl takes the mean over the tokens of a batch, which is the same for one pair."""
    for seed in range(5):
        pairs = drawn(1, seed=seed)
        ours = preference_losses(pairs, "sigmoid", beta=0.1, sft_weight=sft_weight).mean()
        theirs = loss_of_trl(pairs, "sigmoid", 0.1, 0.0, sft_weight)
        assert float(ours) == pytest.approx(theirs, abs=1e-6)


@given(st.integers(0, 2**31), st.floats(0.01, 2), st.floats(0, 0.45))
def test_the_robust_loss_is_the_dpo_loss_in_the_mean_over_flipped_labels(
    seed: int, beta: float, smoothing: float
) -> None:
    pairs = drawn(3, seed)
    flipped = PairLogProbabilities(*(x.flip(1) for x in vars(pairs).values()))
    right, wrong = (
        preference_losses(p, "robust", beta=beta, label_smoothing=smoothing)
        for p in (pairs, flipped)
    )
    clean = preference_losses(pairs, "sigmoid", beta=beta)
    torch.testing.assert_close((1 - smoothing) * right + smoothing * wrong, clean)


def test_the_gradient_raises_the_chosen_answer_and_lowers_the_rejected_one() -> None:
    for name in ("sigmoid", "ipo", "sigmoid_norm", "robust"):
        pairs = drawn(4, seed=1)
        policy = pairs.reference.clone().requires_grad_()
        at_reference = PairLogProbabilities(policy, pairs.reference, pairs.n_tokens)
        preference_losses(at_reference, name, beta=0.1, label_smoothing=0.1).sum().backward()
        assert policy.grad is not None
        assert (policy.grad[:, 0] < 0).all(), name
        assert (policy.grad[:, 1] > 0).all(), name
