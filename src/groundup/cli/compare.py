"""`groundup compare`: the settings in which runs differ, and their results."""

from groundup.base.errors import quoted
from groundup.cli.console import next_command, note, table
from groundup.pretraining.compare import Comparison, compare
from groundup.pretraining.config import CompareConfig


def run(config: CompareConfig) -> Comparison:
    """Print runs side by side."""
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
        f"Results (training and validation loss{result.unit})",
        ["run", "steps", "targets", "seconds", "training", "validation", "bits/byte", ""],
        rows,
    )
    if result.differences:
        names = [row.name for row in result.rows]
        table(
            "Settings that differ",
            ["setting", *names],
            [[key, *values] for key, values in result.differences.items()],
        )
    else:
        note("The settings of these runs are the same.")
    if result.same_until_step:
        note(f"Up to step {result.same_until_step:,}, the training losses are bit-identical.")
    if result.plot is not None:
        note(f"Plot of the loss curves: {result.plot}")
    _recommend(result)
    return result


def _recommend(result: Comparison) -> None:
    """Name the best run, or the one that must be evaluated first."""
    if not result.same_loss:
        what = "validation sets or losses" if result.is_fine_tuning else "validation sets"
        note(f"These runs have different {what}, so they cannot be ranked.")
        return
    best = result.best
    if result.is_fine_tuning:
        if best is not None:
            note(f"The best run by validation loss is {best.name}.")
        return
    missing = [row.name for row in result.rows if row.bits_per_byte is None]
    if best is not None and not missing:
        note(f"The best run by bits per byte is {best.name}.")
        next_command(f"groundup generate {quoted(best.name)}")
        return
    if best is not None:
        note(f"The best run by validation loss is {best.name}.")
    elif result.same_vocabulary:
        note("No run has a validation loss yet, so they cannot be ranked.")
    else:
        note(
            "The vocabularies differ, so losses in nats/token cannot be compared. "
            "Bits per byte can be compared: groundup evaluate RUN measures them. Without a "
            f"result of the best checkpoint on the same bytes: {', '.join(missing)}."
        )
    next_command(f"groundup evaluate {quoted(best.name if best is not None else missing[0])}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
