import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.train.schedule import Schedule


@given(st.integers(2, 300), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_rises_holds_and_falls(n_steps, warmup, decay_frac, final_frac):
    schedule = Schedule(
        n_steps=n_steps,
        warmup_steps=int(warmup * (n_steps - 1)),
        decay_frac=decay_frac,
        final_frac=final_frac,
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
