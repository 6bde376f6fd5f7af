"""Under a budget the number of steps is an estimate that changes, and the progress line follows."""

from groundup.cli.instruct_view import Stages
from groundup.cli.stage_bars import stage_bars


def test_the_total_of_a_line_follows_the_estimate() -> None:
    with stage_bars() as bar:
        first, second = bar("training", 2), bar("training", 45)
        assert first is second is not None
        assert second.total == 45
    with Stages() as stages:
        stages.on_answer("untuned", 1, 4)
        line = stages._line
        stages.on_answer("untuned", 2, 9)
        assert stages._line is line is not None
        assert line.total == 9
