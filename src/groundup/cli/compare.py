"""`groundup compare`: what differs between runs, and what came of it."""

from groundup.base.errors import quoted
from groundup.cli.console import next_command, note, table
from groundup.pretraining.compare import CompareConfig, Comparison, compare


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
    _recommend(result)
    return result


def _recommend(result: Comparison) -> None:
    """Name the best run, or the one whose bits a byte are not known yet."""
    if not result.same_text:
        note("None is called the best: they hold out different texts.")
        return
    best = result.best
    lacking = [row.name for row in result.rows if row.bits_per_byte is None]
    if best is not None and not lacking:
        note(f"By bits a byte {best.name} is the best.")
        next_command(f"groundup generate {quoted(best.name)}")
        return
    if best is not None:
        note(f"By its loss on the held-out text {best.name} is the best.")
    elif result.same_vocabulary:
        note("None of them has looked at the held-out text yet: that has to tell which is best.")
    else:
        note(
            "None is called the best: losses are in nats a token, and the vocabularies differ. "
            "Bits a byte can be compared; groundup evaluate RUN gives them. Not evaluated yet: "
            f"{', '.join(lacking)}."
        )
    next_command(f"groundup evaluate {quoted(best.name if best is not None else lacking[0])}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
