"""The sampling distribution equals its definition, and samples follow it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.generation.sampling import draw, next_token_probabilities

LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=12)


@settings(deadline=None)
@given(logits=LOGITS, temperature=st.floats(0.1, 5), top_k=st.integers(1, 15))
def test_top_k_keeps_k_tokens_and_their_proportions(
    logits: list[float], temperature: float, top_k: int
) -> None:
    z = torch.tensor(logits, dtype=torch.float32)
    p = next_token_probabilities(z, temperature=temperature, top_k=top_k).double()
    kept = p > 0
    assert p.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert kept.sum() <= min(top_k, len(logits))
    assert z[kept].min() >= z[~kept].max() - 1e-6 if (~kept).any() and top_k < len(z) else True
    whole = (z.double() / temperature).softmax(0)
    torch.testing.assert_close(p[kept], (whole / whole[kept].sum())[kept], rtol=1e-3, atol=1e-6)


@settings(deadline=None)
@given(logits=LOGITS, top_p=st.floats(0.05, 0.95))
def test_top_p_keeps_the_smallest_sufficient_set(logits: list[float], top_p: float) -> None:
    z = torch.tensor(logits, dtype=torch.float32)
    p = next_token_probabilities(z, top_p=top_p)
    kept = p > 0
    whole = z.softmax(0)
    mass = whole[kept].sum().item()
    assert mass >= top_p - 1e-4
    # Without its least likely token the set would not reach top_p.
    assert mass - whole[kept].min().item() <= top_p + 1e-4
    assert p.sum().item() == pytest.approx(1.0, abs=1e-5)


def test_temperature_zero_is_greedy_and_the_limit_of_small_temperatures() -> None:
    z = torch.tensor([1.0, 3.0, 2.0])
    greedy = next_token_probabilities(z, temperature=0)
    assert greedy.tolist() == [0.0, 1.0, 0.0]
    torch.testing.assert_close(next_token_probabilities(z, temperature=1e-6), greedy)


@pytest.mark.parametrize("top_p", [5e-324, 1e-46, 1e-9])
def test_top_p_keeps_one_token_at_least(top_p: float) -> None:
    """The first two are 0 in single precision."""
    p = next_token_probabilities(torch.tensor([1.0, 3.0, 2.0]), top_p=top_p)
    assert p.tolist() == [0.0, 1.0, 0.0]


def test_samples_follow_the_distribution() -> None:
    z = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()
    p = next_token_probabilities(z, temperature=0.7, top_k=3, top_p=0.9)
    generator = torch.Generator().manual_seed(0)
    n = 20_000
    counts = torch.zeros(4)
    for _ in range(n):
        counts[draw(p, generator)] += 1
    assert counts[0] == 0
    # Four standard deviations of a binomial proportion.
    assert ((counts / n - p).abs() <= 4 * (p * (1 - p) / n).sqrt() + 1e-9).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.5},
    ],
)
def test_a_setting_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        next_token_probabilities(torch.zeros(3), **wrong)  # type: ignore[arg-type]
