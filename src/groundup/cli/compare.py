"""`groundup compare`: what differs between runs, and what came of it."""

from groundup.cli.console import next_command, note, table
from groundup.train.compare import CompareConfig, Comparison, compare


def run(config: CompareConfig) -> Comparison:
    """Show runs beside each other."""
    result = compare(config)
    rows = [
        [
            row.name,
            f"{row.n_steps:,}",
            f"{row.n_targets:,}",
            f"{row.elapsed_s:,.0f}",
            f"{row.last_loss_nats:.4f}",
            _number(row.best_validation_loss_nats),
            _number(row.bits_per_byte),
            "" if row.finished else "unfinished",
        ]
        for row in result.rows
    ]
    table(
        "What came of them",
        ["run", "steps", "targets", "seconds", "last batch", "held out", "bits a byte", ""],
        rows,
    )
    if result.differences:
        names = [row.name for row in result.rows]
        table(
            "What differs in their settings",
            ["setting", *names],
            [[key, *values] for key, values in result.differences.items()],
        )
    else:
        note("Their settings are the same.")
    if result.same_until_step:
        note(f"Up to step {result.same_until_step:,} their losses are equal to the last bit.")
    note(f"The curves over each other: {result.picture}")
    best = min(result.rows, key=lambda row: row.best_validation_loss_nats or row.last_loss_nats)
    next_command(f"groundup evaluate {best.name}")
    return result


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
