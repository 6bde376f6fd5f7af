"""The watch over a run's curve: it knows what goes wrong in training, and says cause and cure.

Each rule looks at the lines of metrics.jsonl, one after the other, and speaks once. During training
it sees each line as it is written; `groundup doctor` shows it the whole file.
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
DEAD = "dead gradients"
STARVED = "data on time"
PLATEAU = "plateau"
BY_HEART = "learning by heart"
WEIGHTS = "weights are numbers"
CHECKPOINTS = "checkpoints are whole"
_WAITS, _PLATEAU_LOOKS, _WORSE_LOOKS = 50, 20, 3
"""Steps, tenths of steps and looks at the held-out text that a rule needs to judge by."""
CURVE_RULES = (FIRST_LOSS, RATE, EXPLODING, DEAD, STARVED, PLATEAU, BY_HEART)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is wrong with a run."""

    rule: str
    seen: str
    """What was seen, with its numbers, and what it comes from."""
    cure: str
    """What helps; with the option to type where there is one."""
    step: int | None = None
    """The step it was seen at; None: it does not depend on one."""

    def __str__(self) -> str:
        at = "" if self.step is None else f"step {self.step:,}: "
        return f"{at}{self.seen}. {self.cure}"


class Watch:
    """Looks at one step after the other.

    Args:
        vocab_size: V; a model that knows nothing has a loss of ln V.
        learning_rate: The full rate of the run, which cures are told in.
        first_validation_loss_nats: The loss before the first step, if it was measured.

    >>> watch = Watch(vocab_size=100, learning_rate=0.01, first_validation_loss_nats=9.0)
    >>> [finding.rule for finding in watch.start()]
    ['first loss']
    """

    def __init__(
        self, *, vocab_size: int, learning_rate: float, first_validation_loss_nats: float | None
    ) -> None:
        self.learning_rate = learning_rate
        self.no_idea_nats = math.log(vocab_size)
        self._first = first_validation_loss_nats
        self._said: set[str] = set()
        self._smooth = _Smoothed()
        self._norms: deque[float] = deque(maxlen=64)
        self._largest_norm = 0.0
        self._long_norms: deque[bool] = deque(maxlen=20)
        self._n_dead = 0
        self._waits: deque[tuple[float, float]] = deque(maxlen=_WAITS)
        self._history: list[float] = []  # the smoothed loss, every tenth step
        self._best: tuple[float, int] = (math.inf, 0)
        self._n_worse, self._n_looks = 0, 0
        self._n_targets = 0

    def start(self) -> Iterator[Finding]:
        """Judge the loss before the first step."""
        if self._first is None:
            return
        off = self._first - self.no_idea_nats
        if abs(off) > max(0.5, 0.05 * self.no_idea_nats):
            high = off > 0
            yield Finding(
                rule=FIRST_LOSS,
                seen=f"before the first step the loss is {self._first:.2f} nats, and a model that "
                f"knows nothing has ln V = {self.no_idea_nats:.2f}: "
                + ("the starting weights are too large" if high else "it knows these tokens"),
                cure="Start from smaller weights: --init zero"
                if high
                else "See whether targets equal inputs, and what the weights come from",
            )

    def not_examined(self) -> dict[str, str]:
        """The rules that have not seen enough to judge by, each with what it lacks."""
        lacking = {}
        if self._first is None:
            lacking[FIRST_LOSS] = "the loss before the first step is in no checkpoint yet"
        if len(self._waits) < _WAITS:
            lacking[STARVED] = f"it takes {_WAITS} steps"
        if len(self._history) < _PLATEAU_LOOKS:
            lacking[PLATEAU] = f"it takes {10 * _PLATEAU_LOOKS} steps"
        if self._n_looks <= _WORSE_LOOKS:
            lacking[BY_HEART] = f"it takes {_WORSE_LOOKS + 1} looks at the held-out text"
        return {rule: why for rule, why in lacking.items() if rule not in self._said}

    def look(self, row: Mapping[str, Any]) -> Iterator[Finding]:
        """Judge one line of metrics.jsonl; a rule that has spoken keeps silent from then on."""
        for finding in self._judge(row):
            if finding.rule not in self._said:
                self._said.add(finding.rule)
                yield finding

    def _judge(self, row: Mapping[str, Any]) -> Iterator[Finding]:
        yield from self._rate(row)
        yield from self._gradients(row)
        yield from self._loader(row)
        yield from self._progress(row)
        yield from self._held_out(row)

    def _rate(self, row: Mapping[str, Any]) -> Iterator[Finding]:
        smooth = self._smooth
        smooth.add(row["loss_nats"])
        # A batch can be hard by chance: a rise counts when it stands out of the batches' spread,
        # or when the model has come to know less than nothing.
        stands_out = smooth.value - smooth.lowest > max(0.3, 3 * smooth.spread)
        start = max(self.no_idea_nats, self._first or 0.0)
        if smooth.n > 10 and (stands_out or smooth.value > start + 1):
            yield Finding(
                rule=RATE,
                step=row["step"],
                seen=f"the loss has risen from {smooth.lowest:.2f} to {smooth.value:.2f} nats: "
                f"steps of {row['learning_rate']:.2g} go too far",
                cure=f"Take a lower rate: --learning-rate {self.learning_rate / 3:.2g}",
            )

    def _gradients(self, row: Mapping[str, Any]) -> Iterator[Finding]:
        norm, step = row["grad_norm"], row["step"]
        usual = median(self._norms) if len(self._norms) >= 20 else math.inf
        self._norms.append(norm)
        self._long_norms.append(norm > 30 * usual)
        if sum(self._long_norms) >= 3:
            yield Finding(
                rule=EXPLODING,
                step=step,
                seen=f"the gradient's length is {norm:.3g} where {usual:.3g} is usual, "
                f"{sum(self._long_norms)} times within {len(self._long_norms)} steps",
                cure=f"Keep gradients short: --max-grad-norm {2 * usual:.2g}",
            )
        # A loss of almost zero has no gradient left either, and rightly so.
        dead = norm <= 1e-5 * self._largest_norm and row["loss_nats"] > 0.05
        self._largest_norm = max(self._largest_norm, norm)
        self._n_dead = self._n_dead + 1 if dead else 0
        if self._n_dead == 10:
            yield Finding(
                rule=DEAD,
                step=step,
                seen=f"for ten steps the gradient's length is {norm:.3g} at a loss of "
                f"{row['loss_nats']:.2f} nats: the model has gone numb",
                cure="Start anew from other weights at a lower rate: --init zero "
                f"--learning-rate {self.learning_rate / 3:.2g}",
            )

    def _loader(self, row: Mapping[str, Any]) -> Iterator[Finding]:
        step_s = (row["n_targets"] - self._n_targets) / max(1e-9, row["targets_per_s"])
        self._n_targets = row["n_targets"]
        self._waits.append((row.get("waited_s", 0.0), step_s))
        if len(self._waits) < _WAITS:
            return
        waited_s, all_s = map(sum, zip(*self._waits, strict=True))
        if waited_s > 0.2 * all_s:
            yield Finding(
                rule=STARVED,
                step=row["step"],
                seen=f"over the last {len(self._waits)} steps {waited_s / all_s:.0%} of the time "
                "went into waiting for tokens: the disk is slower than the model",
                cure="Put the data folder on a local disk, or into memory",
            )

    def _progress(self, row: Mapping[str, Any]) -> Iterator[Finding]:
        if row["step"] % 10:
            return
        self._history.append(self._smooth.value)
        n = len(self._history)
        if n < _PLATEAU_LOOKS or row["learning_rate"] < 0.3 * self.learning_rate:
            return  # too early, or the rate falls and the run is about to end
        before, now = fmean(self._history[n // 2 : 3 * n // 4]), fmean(self._history[3 * n // 4 :])
        if now > 0.997 * before and now > 0.1:
            yield Finding(
                rule=PLATEAU,
                step=row["step"],
                seen=f"the training loss stands at {now:.2f} nats since half of the way",
                cure="Try a few hundred steps at another rate: --learning-rate "
                f"{3 * self.learning_rate:.2g}, or {self.learning_rate / 3:.2g}; "
                "if neither helps, a larger model",
            )

    def _held_out(self, row: Mapping[str, Any]) -> Iterator[Finding]:
        loss = row.get("validation_loss_nats")
        if loss is None:
            return
        self._n_looks += 1
        self._n_worse = self._n_worse + 1 if loss > 1.02 * self._best[0] else 0
        self._best = min(self._best, (loss, row["step"]))
        if self._n_worse == _WORSE_LOOKS:
            best, best_step = self._best
            yield Finding(
                rule=BY_HEART,
                step=row["step"],
                seen=f"the held-out loss is {loss:.2f} nats and was {best:.2f} at step "
                f"{best_step:,}: from there on the text is learnt by heart",
                cure=f"More text, or an end at that point: --steps {best_step}",
            )


ROLLBACK_DIVISOR = 3
"""Each time a run diverges, it goes on at so much lower rates."""


def rolled_back(step: int, n_rollbacks: int) -> Finding:
    """What a run says that diverged at a step, for the n-th time."""
    return Finding(
        rule=WEIGHTS,
        step=step,
        seen="the loss or a gradient was no number; the run went back to its last checkpoint, and "
        f"goes on from there at 1/{ROLLBACK_DIVISOR**n_rollbacks} of its learning rates",
        cure="To train without this, take a lower --learning-rate, or --max-grad-norm 1",
    )


class _Smoothed:
    """A running mean over about ten values, its lowest, and how far values lie from it."""

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
        """Standard deviation of single values around the mean."""
        return math.sqrt(self._square)
