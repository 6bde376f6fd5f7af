import sys

import pytest
from test_pretrain import KilledError, data, kill_at, settings  # noqa: F401

from groundup.base.errors import UserError
from groundup.train.compare import CompareConfig, compare
from groundup.train.curves import draw_curves
from groundup.train.pretrain import pretrain


def test_compares_settings_curves_and_results(data):  # noqa: F811
    first = pretrain(settings(data)).run
    with pytest.raises(KilledError):
        pretrain(settings(data, steps=8, seed=1), kill_at(7))
    second = data.parent / "run-2"
    again = pretrain(settings(data)).run
    out = data.parent / "compare.svg"
    result = compare(CompareConfig(runs=(str(first), str(second)), out=out))
    assert result.differences == {"steps": ("12", "8"), "seed": ("1234", "1")}
    assert result.same_until_step == 0
    assert [row.finished for row in result.rows] == [True, False]
    assert [row.n_steps for row in result.rows] == [12, 7]
    assert out.read_text().startswith("<svg")
    same = compare(CompareConfig(runs=(str(first), str(again)), out=out))
    assert same.differences == {}
    assert same.same_until_step == 12


def test_one_run_or_none_is_refused(data, tmp_path):  # noqa: F811
    with pytest.raises(UserError, match="1 run to compare; two different ones or more"):
        compare(CompareConfig(runs=("run",)))
    with pytest.raises(UserError, match="1 run to compare"):
        compare(CompareConfig(runs=("run", "./run")))
    with pytest.raises(UserError, match="named twice"):
        compare(CompareConfig(runs=("run", "other", "run")))
    with pytest.raises(UserError, match="no run folder"):
        compare(CompareConfig(runs=("nowhere", "elsewhere")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no step"):
        compare(CompareConfig(runs=(str(tmp_path / "empty"), str(data))))


def test_many_steps_are_thinned_and_nothing_is_drawn_of_nothing():
    rows = [{"step": k, "loss_nats": 1 / k, "learning_rate": 1.0} for k in range(1, 20_001)]
    assert len(draw_curves({"long": rows})) < 60_000
    assert draw_curves({"empty": []}).startswith("<svg")


def test_the_run_draws_its_curves_and_writes_for_tensorboard(data):  # noqa: F811
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with pytest.raises(KilledError):
        pretrain(settings(data, tensorboard=True), kill_at(7))
    run = pretrain(settings(data, tensorboard=True)).run
    assert (run / "figures" / "loss.svg").read_text().startswith("<svg")
    events = accumulator.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    steps = [event.step for event in events.Scalars("loss_nats")]
    assert steps == list(range(1, 13))


def test_without_the_extra_the_line_to_type_is_told(data, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"pip install 'groundup\[tensorboard\]'"):
        pretrain(settings(data, tensorboard=True))
