"""Rules of the watch that count occurrences in a row, and compare with the best value so far."""

import math

import pytest

from groundup.train import curve_checks
from groundup.train.curve_checks import CurveChecks, Finding


def findings(rows: list[dict[str, float]]) -> list[Finding]:
    watch = CurveChecks(
        uniform_nats=math.log(50), learning_rate=0.01, first_validation_loss_nats=3.9
    )
    usual = {"loss_nats": 3.0, "learning_rate": 0.01, "grad_norm": 1.0, "targets_per_s": 100.0}
    found: list[Finding] = []
    for step, row in enumerate(rows, start=1):
        found += watch.check({**usual, "step": step, "n_targets": 100 * step, **row})
    return found


@pytest.mark.parametrize(("n_in_a_row", "is_found"), [(9, False), (10, True)])
def test_ten_vanished_gradients_in_a_row_are_dead(n_in_a_row: int, is_found: bool) -> None:
    rows = ([{"grad_norm": 0.0}] * n_in_a_row + [{"grad_norm": 1.0}]) * 3
    rules = [finding.rule for finding in findings([{"grad_norm": 1.0}, *rows])]
    assert (curve_checks.VANISHING in rules) == is_found


def test_overfitting_is_measured_from_the_best_validation_loss() -> None:
    """Each loss is little worse than the one before, and all are worse than the best."""
    losses = [3.5, 2.0, 2.05, 2.06, 2.07, 2.08]
    found = findings([{"validation_loss_nats": loss} for loss in losses])
    assert [(finding.rule, finding.step) for finding in found] == [(curve_checks.OVERFITTING, 5)]
    assert "--steps 2" in found[0].fix
