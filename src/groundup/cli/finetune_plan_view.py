"""The cost of a fine-tuning run as a table, for `--plan-only`."""

from groundup.base.duration import span
from groundup.cli.console import next_typed, note, table
from groundup.finetune.plan import FineTuningPlan


def show_plan(plan: FineTuningPlan, unit: str, n_folds: int | None = None) -> None:
    """Print the cost of a run, and the command that starts it.

    Args:
        plan: The cost.
        unit: What the loss is the mean of, in the plural.
        n_folds: Number of further trainings for cross-validation.
    """
    if n_folds is not None:
        note(f"Cross-validation takes {n_folds + 1} times as long as this.")
    low, expected, high = plan.total_s
    tests = f", {span(plan.after_s)} of tests after it" if plan.after_s >= 1 else ""
    frac = plan.n_trained_parameters / plan.n_parameters
    rows = [
        ["steps", f"{plan.n_steps:,}", f"{plan.n_tokens:,} tokens, {plan.n_targets:,} {unit}"],
        ["trained parameters", f"{plan.n_trained_parameters:,}", f"{frac:.1%} of all"],
        [
            "time",
            span(expected),
            f"{span(low)} to {span(high)}; {plan.step_s:.2f} s per step{tests}",
        ],
        ["memory", f"{plan.peak_memory_bytes / 1e6:,.0f} MB", "peak"],
        [
            "disk",
            f"{plan.disk_bytes / 1e6:,.0f} MB",
            f"checkpoints of {plan.checkpoint_bytes / 1e6:,.0f} MB",
        ],
    ]
    table("Estimated cost of this run", ["quantity", "estimate", "details"], rows)
    next_typed(["--no-plan-only"])
