"""Orthogonalising: the coefficients are the best ones, and rounding never blows up."""

import numpy as np
import pytest
import torch

from groundup.train.muon import POLAR, orthogonalize

LOWEST = {3: 0.01, 4: 0.003, 5: 0.001}


def best_polynomial(low: float, high: float) -> np.ndarray:
    """a, b, c for which a x + b x^3 + c x^5 stays nearest to 1 on [low, high] (Lawson's method)."""
    x = np.linspace(low, high, 4000)
    powers = np.stack([x, x**3, x**5], axis=1)
    weights = np.full(len(x), 1 / len(x))
    for _ in range(3000):
        root = np.sqrt(weights)
        coefficients = np.linalg.lstsq(powers * root[:, None], root, rcond=None)[0]
        weights *= np.abs(1 - powers @ coefficients)
        weights /= weights.sum()
    return coefficients


@pytest.mark.parametrize("n_steps", POLAR)
def test_each_step_has_the_best_polynomial_for_what_the_step_before_left(n_steps: int) -> None:
    low, high = LOWEST[n_steps], 1.0
    for step, ours in enumerate(POLAR[n_steps], start=1):
        best = best_polynomial(low, high)
        if step < n_steps:
            best = best / 1.02 ** np.array([1, 3, 5])
        np.testing.assert_allclose(ours, best, rtol=2e-3)
        x = np.linspace(low, high, 4000)
        reached = best[0] * x + best[1] * x**3 + best[2] * x**5
        low, high = reached.min(), reached.max()
    assert 0.7 < low < 1 < high < 1.3


@pytest.mark.parametrize("n_steps", POLAR)
def test_every_singular_value_ends_near_one(n_steps: int) -> None:
    generator = torch.Generator().manual_seed(1)
    bases = torch.linalg.qr(torch.randn(3, 20, 8, generator=generator))[0]
    strengths = torch.logspace(0, -1.5, 8)  # the faintest is 0.025 of the whole length
    values = torch.linalg.svdvals(
        orthogonalize(bases * strengths, POLAR[n_steps], dtype=torch.float32)
    )
    assert values.min() > 0.7
    assert values.max() < 1.3


@pytest.mark.parametrize("shape", [(48, 8, 32), (16, 32, 128), (2, 64, 96), (4, 128, 512)])
@pytest.mark.parametrize("n_steps", POLAR)
def test_rounding_to_bfloat16_never_blows_up(n_steps: int, shape: tuple[int, int, int]) -> None:
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        even = torch.randn(*shape, generator=generator)
        heights = torch.rand(*shape[:2], 1, generator=generator)
        nearly_one_direction = even[:, :1] * heights + 0.05 * even
        for matrices in (even, even * heights**2, nearly_one_direction):
            ours = orthogonalize(matrices, POLAR[n_steps], dtype=torch.bfloat16).float()
            assert torch.linalg.svdvals(ours).max() < 1.4
