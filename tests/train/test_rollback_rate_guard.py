"""A run that diverged goes on at a lower rate, with and without a budget."""

import pytest

from groundup.train.schedule import ClockSchedule, Schedule


@pytest.mark.parametrize("step", [1, 5, 30])
def test_the_peak_scales_every_rate(step: int) -> None:
    plain = Schedule(n_steps=40, warmup_steps=4, decay_frac=0.5)
    lower = Schedule(n_steps=40, warmup_steps=4, decay_frac=0.5, peak_frac=1 / 3)
    assert lower.factor(step) == pytest.approx(plain.factor(step) / 3)
    by_clock = ClockSchedule(seconds=40.0, warmup_steps=4).factor(step, float(step))
    lower_by_clock = ClockSchedule(seconds=40.0, warmup_steps=4, peak_frac=1 / 3)
    assert lower_by_clock.factor(step, float(step)) == pytest.approx(by_clock / 3)
