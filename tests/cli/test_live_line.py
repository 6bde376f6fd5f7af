"""The moving line of a training run: everything is on it, in a narrow terminal, too."""

import io

import pytest
from rich.console import Console

from groundup.cli import console
from groundup.cli.training_view import TrainingView
from groundup.train.step import Step

STEP = Step(
    step=120,
    n_steps=600,
    loss_nats=1.6204,
    learning_rate=0.02,
    grad_norm=0.5,
    weight_before=0.1,
    weight=0.2,
    n_targets=98_304,
    targets_per_s=13_749.3,
    waited_s=0.0,
    elapsed_s=3678.0,
    eta_s=41.2,
    memory_bytes=612_000_000,
    validation_loss_nats=1.7009,
)
FACTS = "120/600  98.3k tokens  loss 1.620  val 1.701  lr 0.02  13.7k/s  eta 41 s  612 MB"


@pytest.mark.parametrize("width", [80, 200])
def test_every_fact_is_on_the_line(monkeypatch, width):
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    terminal = Console(file=screen, force_terminal=True, width=width, highlight=False)
    monkeypatch.setattr(console, "console", terminal)
    with console.progress("pretrain", 600) as line:
        TrainingView(line).step(STEP)
    shown = screen.getvalue()
    assert FACTS in shown
    beside = shown.split(FACTS)[0].rsplit("\r", 1)[-1]
    assert ("\u2501" in beside) == (width == 200)  # the bar gives way


def test_piped_it_is_a_plain_line(monkeypatch, capsys):
    monkeypatch.setattr(console, "console", Console(force_terminal=False))
    with console.progress("pretrain", STEP.step) as line:
        TrainingView(line).line.update(STEP.step, "120/120", loss="1.620")
    assert capsys.readouterr().out == "pretrain 100%  120/120  loss 1.620\n"


@pytest.mark.parametrize(
    ("environment", "is_terminal"), [({"TERM": "dumb"}, True), ({"FORCE_COLOR": "1"}, False)]
)
def test_where_no_bar_can_move_it_is_a_plain_line(monkeypatch, capsys, environment, is_terminal):
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: is_terminal)
    terminal = Console(file=screen, width=80, highlight=False, _environ=environment)
    assert terminal.is_terminal
    monkeypatch.setattr(console, "console", terminal)
    with console.progress("pretrain", STEP.step) as line:
        line.update(STEP.step, "120/120")
    assert capsys.readouterr().out == "pretrain 100%  120/120\n"
    assert screen.getvalue() == ""
