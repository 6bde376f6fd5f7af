"""The learning-rate schedule: warmup, constant, decay.

A schedule is a pure function of the step and the elapsed time, so that a resumed run needs nothing
else to continue it.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from groundup.base.errors import UserError
from groundup.base.fields import Config
from groundup.base.kinds import Count, Fraction, OptionName, Whole

Decay = Literal["wsd", "linear", "cosine", "constant"]


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig(Config):
    """The learning-rate schedule."""

    decay: Annotated[Decay, OptionName("schedule")] = "wsd"
    """Learning rate after the warmup: constant, then linear decay (wsd); linear or cosine decay
    from the end of the warmup, as in transformers; or constant."""
    warmup_steps: Whole = 10
    """Number of steps of linear warmup; with wsd at most a tenth of the run."""
    decay_frac: Fraction = 1.0
    """Fraction of the run, at its end, in which the learning rate decays."""
    final_frac: Fraction = 0.0
    """Learning rate at the end of the decay, as a fraction of the peak learning rate."""


def cosine_schedule(
    step: int, n_steps: int, *, warmup_steps: int = 0, final_frac: float | int = 0.0
) -> float:
    """Linear warmup from 0, then half a period of a cosine down to `final_frac`.

    Args:
        step: Number of updates before this one, from 0. From `n_steps` on the result stays the
            same.
        n_steps: Number of updates of the run, warmup included.
        warmup_steps: Number of updates of the warmup.
        final_frac: Factor at the end.

    Returns:
        The factor of the learning rate, as `get_cosine_schedule_with_warmup` of transformers.

    Raises:
        UserError: The warmup is longer than the run, or a number is negative.

    Source: "SGDR: Stochastic Gradient Descent with Warm Restarts", equation 5, without restarts.

    >>> [round(cosine_schedule(step, 6, warmup_steps=2), 2) for step in range(8)]
    [0.0, 0.5, 1.0, 0.85, 0.5, 0.15, 0.0, 0.0]
    """
    return _warmed_up("cosine", step, n_steps, warmup_steps, final_frac)


def linear_schedule(
    step: int, n_steps: int, *, warmup_steps: int = 0, final_frac: float | int = 0.0
) -> float:
    """Linear warmup from 0, then a line down to `final_frac`; see `cosine_schedule`.

    Returns:
        The factor of the learning rate, as `get_linear_schedule_with_warmup` of transformers.

    Raises:
        UserError: The warmup is longer than the run, or a number is negative.

    >>> [round(linear_schedule(step, 6, warmup_steps=2), 2) for step in range(8)]
    [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """
    return _warmed_up("linear", step, n_steps, warmup_steps, final_frac)


def _warmed_up(
    decay: Decay, step: int, n_steps: int, warmup_steps: int, final_frac: float | int
) -> float:
    if min(step, warmup_steps, final_frac) < 0 or warmup_steps > n_steps:
        raise UserError(
            f"step is {step}, n_steps {n_steps}, warmup_steps {warmup_steps} and final_frac "
            f"{final_frac}. Numbers of at least 0 are expected, and no more warmup_steps than "
            "n_steps."
        )
    if step < warmup_steps:
        return step / warmup_steps
    left_frac = 1.0 - (step - warmup_steps) / max(1, n_steps - warmup_steps)
    return _decayed(decay, max(0.0, left_frac), final_frac)


def _decayed(decay: Decay, left_frac: float, final_frac: float) -> float:
    """The factor when this fraction of the decay is left."""
    if decay == "cosine":
        left_frac = 0.5 * (1.0 + math.cos(math.pi * (1.0 - left_frac)))
    return final_frac + (1.0 - final_frac) * left_frac


@dataclass(frozen=True, kw_only=True)
class Schedule(Config):
    """Linear warmup, a constant rate, then decay to (almost) `final_frac` at the last step.

    Update number k of a run with linear or cosine decay is at the rate of `linear_schedule` or
    `cosine_schedule` for step k - 1. Only the warmup is one update ahead of theirs, because a first
    update at rate zero changes nothing.

    The decay matters: at a high rate the weights oscillate around a minimum; as the rate falls,
    they settle and the loss drops.

    Source: "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations", section 3.

    >>> schedule = Schedule(n_steps=10, warmup_steps=2, decay_frac=0.5)
    >>> [round(schedule.factor(step), 2) for step in range(1, 11)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2]
    """

    n_steps: Count
    """Steps of the run."""
    warmup_steps: Whole = 0
    """Steps of linear warmup."""
    decay_frac: Fraction = 1.0
    """Fraction of the run, at its end, in which the rate decays. 0: never."""
    decay: Decay = "wsd"
    """The shape of the decay. Linear and cosine decay begin after the warmup."""
    peak_frac: Fraction = 1.0
    """Highest rate as a fraction of the full rate. A run that diverged continues at a lower one."""
    final_frac: Fraction = 0.0
    """Rate one step after the last step, as a fraction of the full rate."""

    @classmethod
    def of(cls, config: ScheduleConfig, n_steps: int) -> "Schedule":
        """Make the schedule of a run. With wsd the warmup is at most a tenth of the run.

        Raises:
            UserError: The warmup is not shorter than the run.
        """
        cap = n_steps // 10 if config.decay == "wsd" else config.warmup_steps
        return cls(
            n_steps=n_steps,
            warmup_steps=min(config.warmup_steps, cap),
            decay_frac=config.decay_frac,
            decay=config.decay,
            final_frac=config.final_frac,
        )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup_steps >= self.n_steps:
            raise UserError(
                f"A warmup of {self.warmup_steps} steps is too long for {self.n_steps} steps. "
                "It must be shorter than the run.",
                settings={"warmup_steps": self.n_steps // 10},
            )

    def factor(self, step: int, elapsed_s: float = 0.0) -> float:
        """The fraction of the full learning rate at `step`, counted from 1."""
        warmup = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        if self.decay == "constant" or self.decay_frac == 0:
            return self.peak_frac * warmup
        decay_steps = max(1, round(self.n_steps * self.decay_frac))
        if self.decay != "wsd":
            decay_steps = min(decay_steps, self.n_steps - self.warmup_steps)
        left = self.n_steps - step + 1  # the factor of the last step is 1 / decay_steps, not 0
        if left >= decay_steps:
            return self.peak_frac * warmup
        fall = _decayed(self.decay, left / decay_steps, self.final_frac)
        return self.peak_frac * min(warmup, fall)

    def expected_steps(self, step: int, elapsed_s: float = 0.0) -> int:
        """Steps of the run; always the same."""
        return self.n_steps


@dataclass(frozen=True, kw_only=True)
class ClockSchedule:
    """Decay by the clock, for a run that has to end on time.

    The number of steps is not known in advance: a machine that others share changes its speed. The
    rate reaches zero when the time is up, at any number of steps, or at `most_steps`.

    >>> schedule = ClockSchedule(seconds=100.0)
    >>> [round(schedule.factor(step, elapsed_s=10.0 * step), 2) for step in (1, 5, 9)]
    [0.9, 0.5, 0.1]
    >>> schedule.expected_steps(5, elapsed_s=10.0), schedule.expected_steps(49, elapsed_s=99.0)
    (50, 49)
    """

    seconds: float
    """Time for the steps, with the validations and checkpoints between them."""
    most_steps: int | None = None
    """Steps after which the run ends although there is time left. None: no limit."""
    warmup_steps: int = 0
    """Steps of linear warmup."""
    warmup_s: float = 0.0
    """Seconds of linear warmup, instead of steps."""
    decay_frac: float = 1.0
    """Fraction of the time, at its end, in which the rate decays. 0: never."""
    decay: Decay = "wsd"
    """The shape of the decay."""
    peak_frac: float = 1.0
    """Highest rate as a fraction of the full rate. A run that diverged continues at a lower one."""
    final_frac: float = 0.0
    """Rate when the time is up, as a fraction of the full rate."""

    def factor(self, step: int, elapsed_s: float = 0.0) -> float:
        """The fraction of the full learning rate at `step`, which began after `elapsed_s`."""
        warmup = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        if self.warmup_s:
            warmup = min(1.0, max(elapsed_s / self.warmup_s, 0.01))
        left = 1.0 - elapsed_s / self.seconds
        if self.most_steps is not None:
            left = min(left, 1.0 - (step - 1) / self.most_steps)
        left = max(left, 0.001)  # a last step that begins late still has a small rate
        decay_frac = self.decay_frac
        if self.decay != "wsd":  # from the end of the warmup
            warmup_s = self.warmup_s or self.warmup_steps * elapsed_s / max(1, step - 1)
            decay_frac = min(decay_frac, max(0.0, 1.0 - warmup_s / self.seconds))
        if self.decay == "constant" or left >= decay_frac:
            return self.peak_frac * warmup
        fall = _decayed(self.decay, left / decay_frac, self.final_frac)
        return self.peak_frac * min(warmup, fall)

    def expected_steps(self, step: int, elapsed_s: float = 0.0) -> int:
        """Steps of the run, at the mean speed of the `step` steps that took `elapsed_s` seconds."""
        if step < 2:  # one step is too few for an estimate
            return step + 1
        steps = step + max(0, int((self.seconds - elapsed_s) * step / elapsed_s))
        return steps if self.most_steps is None else min(steps, max(step, self.most_steps))
