"""`groundup evaluate RUN --recitations N --canary TEXT`: what the model has memorized."""

from groundup.base.errors import quoted
from groundup.base.folder_kinds import find_run
from groundup.cli.cells import interval, shorten
from groundup.cli.console import next_command, note, table, warn
from groundup.evaluation.config import EvaluateConfig
from groundup.evaluation.memorization import measure_memorization

_CLEAR_BITS = 7.0
"""One number of 128 that are as likely reaches as much."""


def show_memorization(config: EvaluateConfig) -> None:
    """Measure memorization and print it."""
    result = measure_memorization(config)
    if result.train is not None and result.validation is not None:
        sides = {"training set": result.train, "validation set": result.validation}
        table(
            f"Passages that the model continues word for word, {result.n_tokens} tokens after "
            f"{result.n_tokens}",
            ["", "recited", "share", "95 % interval"],
            [
                [name, f"{share.n_right} of {share.n}", f"{share.value:.1%}", interval(share)]
                for name, share in sides.items()
            ],
        )
        if result.train.low > result.validation.high:
            warn("The model has memorized a part of the training set.")
        else:
            note("The model does not recite the training set more often than other texts.")
    if result.exposures:
        table(
            "Canaries among equal texts with other numbers",
            ["canary", "rank", "of", "exposure in bits"],
            [
                [shorten(e.canary, 40), str(e.rank), str(e.n_others + 1), f"{e.bits:.1f}"]
                for e in result.exposures
            ],
        )
        for each in result.exposures:
            if each.bits >= _CLEAR_BITS:
                warn(f"The model has memorized {shorten(each.canary, 40)!r}.")
    next_command(f"groundup generate {quoted(find_run(config.run))}")
