"""A budget of time for a fine-tuning run: how many seconds are left for its steps."""

import logging
import math
import time

from groundup.base.duration import parse_duration_s
from groundup.base.errors import UserError
from groundup.base.machine import FRESH_S, process_age_s
from groundup.finetune.job import FineTuning
from groundup.finetune.memory import checkpoint_bytes
from groundup.finetune.plan import count_batches, measure_steps

_log = logging.getLogger(__name__)
_AFTER_S, _DISK_BYTES_PER_S = 1.5, 2e8
"""Time after the last step, for figures, pages and a checkpoint; disk throughput."""
_MARGIN = 1.1
_FEWEST_STEPS = 3


def steps_within_budget(job: FineTuning) -> tuple[int, float]:
    """Measure steps, and return the largest number that the budget allows, and the time of one.

    Nothing of the job is changed. Without a budget nothing is measured, and the time is 0.
    """
    if job.config.budget is None:
        return job.n_steps, 0.0
    step_s = measure_steps(job, count_batches(job)).step_s
    most = parse_duration_s(job.config.budget, "budget") / step_s
    return max(1, min(job.n_steps, int(most))), step_s


def seconds_for_steps(
    job: FineTuning, *, step_s: float, started_at: float, validation_s: float, n_validations: int
) -> float | None:
    """Return the seconds that a budget leaves for steps and the validations between them.

    Args:
        job: The job.
        step_s: Duration of a step.
        started_at: When the budget started, by `time.monotonic()`.
        validation_s: Duration of a validation.
        n_validations: Number of validations of the run.

    Returns:
        None: all steps fit into the budget, or there is none.

    Raises:
        UserError: The budget is too short for a few steps.
    """
    if job.config.budget is None:
        return None
    budget_s = parse_duration_s(job.config.budget, "budget")
    after_s = _AFTER_S + checkpoint_bytes(job) / _DISK_BYTES_PER_S + validation_s + job.after_s
    spent_s = time.monotonic() - started_at
    if 0 < process_age_s() - spent_s < FRESH_S:
        spent_s = process_age_s()
    left_s = budget_s - spent_s - after_s
    if left_s < _FEWEST_STEPS * step_s:
        least_s = spent_s + after_s + 2 * _FEWEST_STEPS * step_s
        raise UserError(
            f"Of the budget of {job.config.budget}, {spent_s:.0f} s are spent and {after_s:.0f} s "
            f"are reserved for tests, and a step takes {step_s:.1f} s. Time for at least "
            f"{_FEWEST_STEPS} steps is expected.",
            settings={"budget": f"{math.ceil(least_s / 60)}m"},
        )
    needed_s = _MARGIN * (job.n_steps * step_s + n_validations * validation_s)
    if needed_s <= left_s:
        _log.info("All %d steps fit into the budget.", job.n_steps)
        return None
    _log.info("The budget leaves %.1f s for steps of about %.2f s.", left_s, step_s)
    return left_s
