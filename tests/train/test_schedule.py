import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peers import peer

from groundup.base.errors import UserError
from groundup.train.schedule import (
    ClockSchedule,
    Schedule,
    ScheduleConfig,
    cosine_schedule,
    linear_schedule,
)

SHAPES: list[Any] = ["wsd", "linear", "cosine"]


@given(
    st.integers(2, 300), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.sampled_from(SHAPES)
)
def test_rises_holds_and_falls(n_steps, warmup, decay_frac, final_frac, decay):
    schedule = Schedule(
        n_steps=n_steps,
        warmup_steps=int(warmup * (n_steps - 1)),
        decay_frac=decay_frac,
        final_frac=final_frac,
        decay=decay,
    )
    factors = [schedule.factor(step) for step in range(1, n_steps + 1)]
    assert all(0 < factor <= 1 for factor in factors)
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)


def test_without_decay_the_rate_holds():
    assert Schedule(n_steps=5, decay_frac=0.0).factor(5) == 1.0


def test_the_fall_ends_just_above_its_goal():
    assert Schedule(n_steps=100).factor(100) == pytest.approx(0.01)
    assert Schedule(n_steps=100, final_frac=0.1).factor(100) == pytest.approx(0.109)


@pytest.mark.parametrize(
    "bad",
    [{"n_steps": 0}, {"n_steps": 5, "warmup_steps": 5}, {"n_steps": 5, "decay_frac": 1.5}],
)
def test_refuses(bad):
    with pytest.raises(UserError):
        Schedule(**bad)


def theirs(make: Any, n_steps: int, **settings: Any) -> list[float]:
    """The rates of a scheduler of torch or transformers at each update, from a peak of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer, **settings)
    rates = []
    for _ in range(n_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(("n_steps", "warmup_steps"), [(20, 0), (20, 1), (20, 7), (9, 8), (5, 5)])
@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_linear_and_cosine_equal_transformers(decay: Any, n_steps: int, warmup_steps: int) -> None:
    ours = {"linear": linear_schedule, "cosine": cosine_schedule}[decay]
    # Imported here: it takes seconds, in every process that collects this file.
    make = getattr(peer("transformers"), f"get_{decay}_schedule_with_warmup")
    wanted = theirs(make, n_steps, num_warmup_steps=warmup_steps, num_training_steps=n_steps)
    found = [ours(step, n_steps, warmup_steps=warmup_steps) for step in range(n_steps)]
    assert found == pytest.approx(wanted, abs=1e-12)
    if warmup_steps < n_steps:
        schedule = Schedule(n_steps=n_steps, warmup_steps=warmup_steps, decay=decay)
        run = [schedule.factor(step) for step in range(1, n_steps + 1)]
        assert run[warmup_steps:] == pytest.approx(wanted[warmup_steps:], abs=1e-12)
        assert run[:warmup_steps] == pytest.approx(
            [(i + 1) / warmup_steps for i in range(warmup_steps)]
        )


@pytest.mark.parametrize("final_frac", [0.0, 0.1, 1.0])
def test_without_warmup_they_equal_torch(final_frac: float) -> None:
    lr = torch.optim.lr_scheduler
    cosine = theirs(lr.CosineAnnealingLR, 30, T_max=30, eta_min=final_frac)
    found = [cosine_schedule(step, 30, final_frac=final_frac) for step in range(30)]
    assert found == pytest.approx(cosine, abs=1e-9)
    linear = theirs(lr.LinearLR, 30, start_factor=1.0, end_factor=final_frac, total_iters=30)
    found = [linear_schedule(step, 30, final_frac=final_frac) for step in range(30)]
    assert found == pytest.approx(linear, abs=1e-9)


@pytest.mark.parametrize("step", [0, 3, 7, 8, 15, 21, 22, 100])
def test_cosine_equals_the_formula_of_a_course(step: int) -> None:
    """alpha_t for max and min rates, warmup T_w = 7 and end of the cosine T_c = 21."""
    high, low = 1.0, 0.1
    if step < 7:
        wanted = step / 7 * high
    elif step <= 21:
        wanted = low + (1 + math.cos((step - 7) / (21 - 7) * math.pi)) / 2 * (high - low)
    else:
        wanted = low
    assert cosine_schedule(step, 21, warmup_steps=7, final_frac=0.1) == pytest.approx(wanted)


def test_a_constant_rate_stays_after_the_warmup() -> None:
    schedule = Schedule(n_steps=5, warmup_steps=2, decay="constant", final_frac=0.5)
    assert [schedule.factor(step) for step in range(1, 6)] == [0.5, 1, 1, 1, 1]
    assert ClockSchedule(seconds=10.0, decay="constant").factor(1, 9.9) == 1.0


@pytest.mark.parametrize("decay", SHAPES)
def test_by_the_clock_the_shape_is_the_same(decay: Any) -> None:
    steps = Schedule(n_steps=1000, decay=decay, decay_frac=0.6, final_frac=0.2)
    clock = ClockSchedule(seconds=1000.0, decay=decay, decay_frac=0.6, final_frac=0.2)
    for step in range(1, 1000, 37):
        assert clock.factor(step, elapsed_s=float(step - 1)) == pytest.approx(steps.factor(step))


def test_only_wsd_shortens_a_long_warmup() -> None:
    warmups = [
        Schedule.of(ScheduleConfig(decay=decay, warmup_steps=50), 100).warmup_steps
        for decay in ("wsd", "linear", "cosine", "constant")
    ]
    assert warmups == [10, 50, 50, 50]
    with pytest.raises(UserError, match="too long for 50 steps"):
        Schedule.of(ScheduleConfig(decay="cosine", warmup_steps=50), 50)


@pytest.mark.parametrize(
    "bad", [(-1, 5, {}), (0, 5, {"warmup_steps": 6}), (0, 5, {"final_frac": -0.1})]
)
def test_functions_refuse(bad: Any) -> None:
    step, n_steps, settings = bad
    for schedule in (cosine_schedule, linear_schedule):
        with pytest.raises(UserError, match="expected"):
            schedule(step, n_steps, **settings)


def test_a_warmup_by_the_clock() -> None:
    schedule = ClockSchedule(seconds=100.0, warmup_s=10.0, decay="linear")
    places = ((1, 0.0), (2, 5.0), (9, 10.0), (40, 55.0))
    factors = [schedule.factor(step, elapsed_s) for step, elapsed_s in places]
    assert factors == pytest.approx([0.01, 0.5, 1.0, 0.5])
    by_steps = ClockSchedule(seconds=100.0, warmup_steps=10, decay="linear")
    assert by_steps.factor(11, 10.0) == pytest.approx(1.0)
    assert by_steps.factor(56, 55.0) == pytest.approx(0.5)
