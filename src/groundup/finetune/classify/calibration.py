"""Calibrate probabilities with a temperature, on the validation set and never on the test set.

Few validation rows make a temperature that is mostly noise: on ten splits with 149 of them, it made
the test loss worse (0.057 nats instead of 0.055; benchmarks/RESULTS.md). The temperature is
therefore drawn towards 1, applied only if the interval of the improvement on the validation set
excludes 0, and below 1 only if the validation set has enough errors: where nearly all rows are
right, sharper probabilities look better until the first error.

Source: "On Calibration of Modern Neural Networks", section 4.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from groundup.evaluation.paired import MIN_ITEMS, Difference, paired_bootstrap

_LEAST = 1e-12
_PRIOR_STD = 0.3
"""Standard deviation of ln(temperature) before any row is seen. Without it, rows that are all
classified correctly would make every probability 0 or 1."""


_LEAST_ERRORS = 20
"""With fewer errors on the validation set, probabilities are not made sharper."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The temperature that fits a validation set best, and whether it is used."""

    temperature: float
    """The temperature that is applied: logits are divided by it. 1: nothing is changed."""
    best_temperature: float
    """The temperature with the lowest validation loss."""
    improvement: Difference | None
    """How much it lowers the validation loss, in nats. None: there are too few rows."""

    @property
    def sentence(self) -> str:
        """What was done, in one sentence."""
        if self.improvement is None:
            return f"Calibration: none, fewer than {MIN_ITEMS} validation rows."
        found = (
            f"temperature {self.best_temperature:.2f} lowers the loss on {self.improvement.n:,} "
            f"validation rows by {self.improvement.mean:.4f} nats"
        )
        if self.temperature == 1.0:
            return f"Calibration: not needed ({found}; the interval includes 0)."
        return f"Calibration: {found}, and is applied."


def calibrate(probabilities: Float[np.ndarray, "N K"], labels: Sequence[int]) -> Calibration:
    """Find the temperature with the lowest loss on validation rows, and decide whether to use it.

    >>> calibrate(np.array([[0.9, 0.1]] * 60), [0] * 36 + [1] * 24).best_temperature > 2
    True
    """
    from scipy.optimize import minimize_scalar

    if len(labels) < MIN_ITEMS:
        return Calibration(temperature=1.0, best_temperature=1.0, improvement=None)
    before = losses(probabilities, labels)

    def loss(log_temperature: float) -> float:
        scaled = apply_temperature(probabilities, float(np.exp(log_temperature)))
        return float(losses(scaled, labels).sum() + 0.5 * (log_temperature / _PRIOR_STD) ** 2)

    n_errors = int((probabilities.argmax(axis=1) != np.asarray(labels)).sum())
    lowest = -2.0 if n_errors >= _LEAST_ERRORS else 0.0
    found = minimize_scalar(loss, bounds=(lowest, 2.0), method="bounded")
    best = float(np.exp(found.x))
    gain = paired_bootstrap(before, losses(apply_temperature(probabilities, best), labels))
    is_used = gain.is_clear and gain.mean > 0
    return Calibration(
        temperature=best if is_used else 1.0, best_temperature=best, improvement=gain
    )


def apply_temperature(
    probabilities: Float[np.ndarray, "N K"], temperature: float
) -> Float[np.ndarray, "N K"]:
    """Divide the log probabilities by the temperature, and normalize them again.

    >>> apply_temperature(np.array([[0.8, 0.2]]), 2.0).round(3).tolist()
    [[0.667, 0.333]]
    """
    if temperature == 1.0:
        return probabilities
    logits = np.log(np.clip(probabilities, _LEAST, 1.0)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    scaled: Float[np.ndarray, "N K"] = powers / powers.sum(axis=1, keepdims=True)
    return scaled


def losses(
    probabilities: Float[np.ndarray, "N K"], labels: Sequence[int]
) -> Float[np.ndarray, " N"]:
    """Compute -ln of the probability of each row's class, in nats."""
    of_label = probabilities[np.arange(len(labels)), np.asarray(labels, dtype=np.int64)]
    found: Float[np.ndarray, " N"] = -np.log(np.clip(of_label, _LEAST, 1.0))
    return found
