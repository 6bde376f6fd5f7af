"""Checks of a training curve: each one names a common training problem, its cause and a fix.

Each rule reads the lines of metrics.jsonl in order and reports at most once. During training it
reads every line as it is written; `groundup doctor` gives it the whole file.
"""

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

FIRST_LOSS = "first loss"
RATE = "learning rate"
EXPLODING = "exploding gradients"
VANISHING = "vanishing gradients"
STARVED = "data loading"
PLATEAU = "plateau"
OVERFITTING = "overfitting"
WEIGHTS = "finite weights"
CHECKPOINTS = "intact checkpoints"
_N_WAITS, _N_PLATEAU_POINTS, _N_WORSE_VALIDATIONS = 50, 20, 3
"""How many steps, points of the smoothed curve (one in ten steps) and validations a rule needs."""
CURVE_RULES = (FIRST_LOSS, RATE, EXPLODING, VANISHING, STARVED, PLATEAU, OVERFITTING)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A problem that was found in a run."""

    rule: str
    message: str
    """What was found, with its numbers and its likely cause."""
    fix: str
    """What to do about it, with the option to type where there is one."""
    step: int | None = None
    """The step at which it was found; None: it does not depend on a step."""

    def __str__(self) -> str:
        at = "" if self.step is None else f"step {self.step:,}: "
        return f"{at}{self.message} {self.fix}"


class CurveChecks:
    """Apply the rules to one line of metrics after the other.

    Args:
        uniform_nats: ln V, the loss of a uniform prediction. None: the model was trained before.
        learning_rate: The peak learning rate of the run, which fixes are computed from.
        first_validation_loss_nats: The loss before the first step, if it was measured.

    >>> checks = CurveChecks(uniform_nats=4.6, learning_rate=0.01, first_validation_loss_nats=9.0)
    >>> [finding.rule for finding in checks.start()]
    ['first loss']
    """

    def __init__(
        self,
        *,
        uniform_nats: float | None,
        learning_rate: float,
        first_validation_loss_nats: float | None,
    ) -> None:
        self.learning_rate = learning_rate
        self.uniform_nats = uniform_nats
        self._first = first_validation_loss_nats
        self._reported: set[str] = set()
        self._smooth = _Smoothed()
        self._norms: deque[float] = deque(maxlen=64)
        self._largest_norm = 0.0
        self._large_norms: deque[bool] = deque(maxlen=20)
        self._n_vanished = 0
        self._waits: deque[tuple[float, float]] = deque(maxlen=_N_WAITS)
        self._history: list[float] = []  # the smoothed loss, every tenth step
        self._best: tuple[float, int] = (math.inf, 0)
        self._n_worse, self._n_validations = 0, 0
        self._n_targets = 0

    def start(self) -> Iterator[Finding]:
        """Check the loss before the first step."""
        if self._first is None or self.uniform_nats is None:
            return
        off = self._first - self.uniform_nats
        if abs(off) > max(0.5, 0.05 * self.uniform_nats):
            high = off > 0
            yield Finding(
                rule=FIRST_LOSS,
                message=f"Before the first step the loss is {self._first:.2f} nats; a uniform "
                f"prediction has ln V = {self.uniform_nats:.2f}: "
                + (
                    "the initial weights are too large."
                    if high
                    else "the model has seen these tokens."
                ),
                fix="Use a smaller initialization: --init zero."
                if high
                else "Check that targets differ from inputs, and where the weights come from.",
            )

    def skipped(self) -> dict[str, str]:
        """Return the rules that have not seen enough data, each with what it needs."""
        skipped = {}
        if self.uniform_nats is None:
            skipped[FIRST_LOSS] = "the model was trained before"
        elif self._first is None:
            skipped[FIRST_LOSS] = "no checkpoint holds the loss before the first step yet"
        if len(self._waits) < _N_WAITS:
            skipped[STARVED] = f"needs {_N_WAITS} steps"
        if len(self._history) < _N_PLATEAU_POINTS:
            skipped[PLATEAU] = f"needs {10 * _N_PLATEAU_POINTS} steps"
        if self._n_validations <= _N_WORSE_VALIDATIONS:
            skipped[OVERFITTING] = f"needs {_N_WORSE_VALIDATIONS + 1} validations"
        return {rule: why for rule, why in skipped.items() if rule not in self._reported}

    def check(self, row: Mapping[str, Any]) -> Iterator[Finding]:
        """Check one line of metrics.jsonl; each rule reports at most once."""
        for finding in self._apply_rules(row):
            if finding.rule not in self._reported:
                self._reported.add(finding.rule)
                yield finding

    def _apply_rules(self, row: Mapping[str, Any]) -> Iterator[Finding]:
        yield from self._check_learning_rate(row)
        yield from self._check_gradients(row)
        yield from self._check_loader(row)
        yield from self._check_plateau(row)
        yield from self._check_overfitting(row)

    def _check_learning_rate(self, row: Mapping[str, Any]) -> Iterator[Finding]:
        smooth = self._smooth
        smooth.add(row["loss_nats"])
        # One batch can be hard: a rise counts when it is large beside the spread of the batches,
        # or when the loss is above that of a uniform prediction.
        is_large = smooth.value - smooth.lowest > max(0.3, 3 * smooth.spread)
        known = [nats for nats in (self.uniform_nats, self._first) if nats is not None]
        start = max(known, default=math.inf)
        if smooth.n > 10 and (is_large or smooth.value > start + 1):
            yield Finding(
                rule=RATE,
                step=row["step"],
                message=f"The loss has risen from {smooth.lowest:.2f} to {smooth.value:.2f} nats: "
                f"a learning rate of {row['learning_rate']:.2g} is too high.",
                fix=f"Use a lower learning rate: --learning-rate {self.learning_rate / 3:.2g}.",
            )

    def _check_gradients(self, row: Mapping[str, Any]) -> Iterator[Finding]:
        norm, step = row["grad_norm"], row["step"]
        usual = median(self._norms) if len(self._norms) >= 20 else math.inf
        self._norms.append(norm)
        self._large_norms.append(norm > 30 * usual)
        if sum(self._large_norms) >= 3:
            yield Finding(
                rule=EXPLODING,
                step=step,
                message=f"The gradient norm is {norm:.3g}, where {usual:.3g} is usual, "
                f"{sum(self._large_norms)} times within {len(self._large_norms)} steps.",
                fix=f"Clip the gradient norm: --max-grad-norm {2 * usual:.2g}.",
            )
        # At a loss of almost zero a small gradient is correct.
        again = "" if self.uniform_nats is None else "from other initial weights "
        initial = "" if self.uniform_nats is None else "--init zero "
        vanished = norm <= 1e-5 * self._largest_norm and row["loss_nats"] > 0.05
        self._largest_norm = max(self._largest_norm, norm)
        self._n_vanished = self._n_vanished + 1 if vanished else 0
        if self._n_vanished == 10:
            yield Finding(
                rule=VANISHING,
                step=step,
                message=f"For ten steps the gradient norm is {norm:.3g} at a loss of "
                f"{row['loss_nats']:.2f} nats: the gradients have vanished.",
                fix=f"Start again {again}at a lower learning rate: {initial}"
                f"--learning-rate {self.learning_rate / 3:.2g}.",
            )

    def _check_loader(self, row: Mapping[str, Any]) -> Iterator[Finding]:
        step_s = (row["n_targets"] - self._n_targets) / max(1e-9, row["targets_per_s"])
        self._n_targets = row["n_targets"]
        self._waits.append((row.get("waited_s", 0.0), step_s))
        if len(self._waits) < _N_WAITS:
            return
        waited_s, all_s = map(sum, zip(*self._waits, strict=True))
        if waited_s > 0.2 * all_s:
            yield Finding(
                rule=STARVED,
                step=row["step"],
                message=f"Over the last {len(self._waits)} steps {waited_s / all_s:.0%} of the "
                "time was spent waiting for data: the disk is slower than the model.",
                fix="Put the data folder on a local disk or in memory.",
            )

    def _check_plateau(self, row: Mapping[str, Any]) -> Iterator[Finding]:
        if row["step"] % 10:
            return
        self._history.append(self._smooth.value)
        n = len(self._history)
        if n < _N_PLATEAU_POINTS or row["learning_rate"] < 0.3 * self.learning_rate:
            return  # too early, or the learning rate is decaying and the run is about to end
        before, now = fmean(self._history[n // 2 : 3 * n // 4]), fmean(self._history[3 * n // 4 :])
        if now > 0.997 * before and now > 0.1:
            yield Finding(
                rule=PLATEAU,
                step=row["step"],
                message=f"The training loss has stayed at {now:.2f} nats for half of the run.",
                fix="Try a few hundred steps at another learning rate: --learning-rate "
                f"{3 * self.learning_rate:.2g} or {self.learning_rate / 3:.2g}. "
                "If neither helps, use a larger model.",
            )

    def _check_overfitting(self, row: Mapping[str, Any]) -> Iterator[Finding]:
        loss = row.get("validation_loss_nats")
        if loss is None:
            return
        self._n_validations += 1
        self._n_worse = self._n_worse + 1 if loss > 1.02 * self._best[0] else 0
        self._best = min(self._best, (loss, row["step"]))
        if self._n_worse == _N_WORSE_VALIDATIONS:
            best, best_step = self._best
            yield Finding(
                rule=OVERFITTING,
                step=row["step"],
                message=f"The validation loss is {loss:.2f} nats and was {best:.2f} at step "
                f"{best_step:,}: since then the model has been overfitting.",
                fix=f"Use more text, or stop at that step: --steps {best_step}.",
            )


ROLLBACK_DIVISOR = 3
"""Each time a run diverges, its learning rates are divided by this."""


def rolled_back(step: int, n_rollbacks: int) -> Finding:
    """Report that a run diverged at a step, for the n-th time."""
    return Finding(
        rule=WEIGHTS,
        step=step,
        message="The loss or a gradient was NaN or infinite. The run went back to its last "
        f"checkpoint and continues at 1/{ROLLBACK_DIVISOR**n_rollbacks} of its learning rates.",
        fix="To avoid this, use a lower --learning-rate, or --max-grad-norm 1.",
    )


class _Smoothed:
    """A running mean over about ten values, its minimum, and the spread of the values around it."""

    def __init__(self) -> None:
        self.n, self.value, self.lowest, self._square = 0, 0.0, math.inf, 0.0

    def add(self, value: float) -> None:
        self.n += 1
        share = max(0.1, 1 / self.n)
        if self.n > 1:
            self._square += max(0.02, 1 / self.n) * ((value - self.value) ** 2 - self._square)
        self.value += share * (value - self.value)
        self.lowest = min(self.lowest, self.value)

    @property
    def spread(self) -> float:
        """Standard deviation of the values around the running mean."""
        return math.sqrt(self._square)
