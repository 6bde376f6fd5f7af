"""How the learning rate moves over a run: up, level, and down to zero.

A schedule is a pure function of the step and the time spent, so a stopped run needs nothing else
stored to go on with it.
"""

from dataclasses import dataclass

from groundup.base.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Linear warm-up, a hold, then a linear fall to (almost) zero at the last step.

    The fall matters more than it looks: while the rate is high the weights rattle about the
    valley's floor; as it sinks they settle, and the loss drops by itself.

    Source: "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations", section 3.

    >>> schedule = Schedule(n_steps=10, warmup_steps=2, decay_frac=0.5)
    >>> [round(schedule.factor(step), 2) for step in range(1, 11)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2]
    """

    n_steps: int
    """Steps of the whole run."""
    warmup_steps: int = 0
    """Steps from almost nothing to the full rate."""
    decay_frac: float = 1.0
    """Share of the run, at its end, in which the rate falls; 1: from the first step, 0: never."""
    peak_frac: float = 1.0
    """What the rate rises to, as a share of the full rate; a run that diverged goes on lower."""
    final_frac: float = 0.0
    """What the fall aims at, as a share of the full rate (reached one step after the last)."""

    def __post_init__(self) -> None:
        if self.n_steps < 1:
            raise UserError(f"{self.n_steps} steps", need="one or more", type_this="--steps 100")
        if not 0 <= self.warmup_steps < max(self.n_steps, 1) and self.warmup_steps != 0:
            raise UserError(
                f"a warm-up of {self.warmup_steps} steps in a run of {self.n_steps}",
                need="a warm-up shorter than the run",
                type_this=f"--warmup-steps {self.n_steps // 10}",
            )
        for name in ("decay_frac", "final_frac", "peak_frac"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"{name} is {getattr(self, name)}", need="a share from 0 to 1")

    def factor(self, step: int, elapsed_s: float = 0.0) -> float:
        """The share of the full learning rate at `step`, counted from 1; time does not matter."""
        warmup = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        decay_steps = max(1, round(self.n_steps * self.decay_frac)) if self.decay_frac else 0
        left = self.n_steps - step + 1  # the last step still moves: its factor is 1 / decay_steps
        if left >= decay_steps or decay_steps == 0:
            return self.peak_frac * warmup
        fall = self.final_frac + (1.0 - self.final_frac) * left / decay_steps
        return self.peak_frac * min(warmup, fall)

    def expected_steps(self, step: int, elapsed_s: float = 0.0) -> int:
        """Steps of the whole run; always the same."""
        return self.n_steps


@dataclass(frozen=True, kw_only=True)
class ClockSchedule:
    """A linear fall to zero by the clock, for a run that is to end on time.

    How many steps there will be nobody knows before: a machine that others share changes its speed.
    The rate is at zero when the time is up, however many there were.

    >>> schedule = ClockSchedule(seconds=100.0)
    >>> [round(schedule.factor(step, elapsed_s=10.0 * step), 2) for step in (1, 5, 9)]
    [0.9, 0.5, 0.1]
    >>> schedule.expected_steps(5, elapsed_s=10.0), schedule.expected_steps(49, elapsed_s=99.0)
    (50, 49)
    """

    seconds: float
    """How long the steps may take, with validation and checkpoints between them."""
    warmup_steps: int = 0
    """Steps from almost nothing to the full rate."""
    peak_frac: float = 1.0
    """What the rate rises to, as a share of the full rate; a run that diverged goes on lower."""

    def factor(self, step: int, elapsed_s: float = 0.0) -> float:
        """The share of the full learning rate at `step`, begun after `elapsed_s` seconds."""
        warmup = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        # Late by a moment, the last step still moves a little.
        left = max(1.0 - elapsed_s / self.seconds, 0.001)
        return self.peak_frac * min(warmup, left)

    def expected_steps(self, step: int, elapsed_s: float = 0.0) -> int:
        """Steps of the whole run, at the mean pace of the `step` that took `elapsed_s` seconds."""
        if step < 2:  # one is too few to tell
            return step + 1
        return step + max(0, int((self.seconds - elapsed_s) * step / elapsed_s))
