"""The learning-rate schedule: warmup, constant, decay to zero.

A schedule is a pure function of the step and the elapsed time, so that a resumed run needs nothing
else to continue it.
"""

from dataclasses import dataclass

from groundup.base.errors import UserError
from groundup.base.fields import Config, Count, Fraction, Whole


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig(Config):
    """The learning-rate schedule."""

    warmup_steps: Whole = 10
    """Number of steps of linear warmup, at most a tenth of the run."""
    decay_frac: Fraction = 1.0
    """Fraction of the run, at its end, in which the learning rate decays to zero."""


@dataclass(frozen=True, kw_only=True)
class Schedule(Config):
    """Linear warmup, a constant rate, then linear decay to (almost) zero at the last step.

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
    peak_frac: Fraction = 1.0
    """Highest rate as a fraction of the full rate. A run that diverged continues at a lower one."""
    final_frac: Fraction = 0.0
    """Rate one step after the last step, as a fraction of the full rate."""

    @classmethod
    def of(cls, config: ScheduleConfig, n_steps: int) -> "Schedule":
        """Make the schedule of a run. The warmup of a short run is at most a tenth of it."""
        warmup_steps = min(config.warmup_steps, n_steps // 10)
        return cls(n_steps=n_steps, warmup_steps=warmup_steps, decay_frac=config.decay_frac)

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
        decay_steps = max(1, round(self.n_steps * self.decay_frac)) if self.decay_frac else 0
        left = self.n_steps - step + 1  # the factor of the last step is 1 / decay_steps, not 0
        if left >= decay_steps or decay_steps == 0:
            return self.peak_frac * warmup
        fall = self.final_frac + (1.0 - self.final_frac) * left / decay_steps
        return self.peak_frac * min(warmup, fall)

    def expected_steps(self, step: int, elapsed_s: float = 0.0) -> int:
        """Steps of the run; always the same."""
        return self.n_steps


@dataclass(frozen=True, kw_only=True)
class ClockSchedule:
    """Linear decay to zero by the clock, for a run that has to end on time.

    The number of steps is not known in advance: a machine that others share changes its speed. The
    rate reaches zero when the time is up, at any number of steps.

    >>> schedule = ClockSchedule(seconds=100.0)
    >>> [round(schedule.factor(step, elapsed_s=10.0 * step), 2) for step in (1, 5, 9)]
    [0.9, 0.5, 0.1]
    >>> schedule.expected_steps(5, elapsed_s=10.0), schedule.expected_steps(49, elapsed_s=99.0)
    (50, 49)
    """

    seconds: float
    """Time for the steps, with the validations and checkpoints between them."""
    warmup_steps: int = 0
    """Steps of linear warmup."""
    peak_frac: float = 1.0
    """Highest rate as a fraction of the full rate. A run that diverged continues at a lower one."""

    def factor(self, step: int, elapsed_s: float = 0.0) -> float:
        """The fraction of the full learning rate at `step`, which began after `elapsed_s`."""
        warmup = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        # A last step that begins late still has a small rate.
        left = max(1.0 - elapsed_s / self.seconds, 0.001)
        return self.peak_frac * min(warmup, left)

    def expected_steps(self, step: int, elapsed_s: float = 0.0) -> int:
        """Steps of the run, at the mean speed of the `step` steps that took `elapsed_s` seconds."""
        if step < 2:  # one step is too few for an estimate
            return step + 1
        return step + max(0, int((self.seconds - elapsed_s) * step / elapsed_s))
