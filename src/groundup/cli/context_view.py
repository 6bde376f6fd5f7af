"""`groundup evaluate RUN --context`: how the loss falls with the context."""

from groundup.base.errors import quoted
from groundup.base.folder_kinds import find_run
from groundup.cli.console import next_command, note, table, warn
from groundup.evaluation.config import EvaluateConfig
from groundup.evaluation.context import measure_context
from groundup.evaluation.paired import Difference


def show_context(config: EvaluateConfig) -> None:
    """Measure the loss by context and by repetition, and print both."""
    result = measure_context(config)
    table(
        f"Loss of the same {result.longest.n_targets:,} tokens of the validation set, by context",
        ["context", "nats/token", "above the longest", "95 % interval"],
        [
            [f"{e.n_context:,}", f"{e.nats:.4f}", *_cells(e.excess)]
            if e is not result.longest
            else [f"{e.n_context:,}", f"{e.nats:.4f}", "", ""]
            for e in result.losses
        ],
    )
    note(result.verdict)
    if result.harmed_beyond is not None:
        warn(
            f"The loss is lowest with {result.harmed_beyond:,} tokens, and clearly higher with "
            f"{result.longest.n_context:,}: the model reads long texts worse."
        )
    if result.documents != "stream":
        note(f"Contexts end at the start of a document, because documents = {result.documents}.")
    if result.copies:
        table(
            "Passages that the model reads for the second time",
            ["distance", "first reading", "second reading", "gain", "95 % interval"],
            [
                [f"{c.distance:,}", f"{c.first_nats:.4f}", f"{c.second_nats:.4f}", *_cells(c.gain)]
                for c in result.copies
            ],
        )
        note(
            "No passage is clearly easier at the second reading."
            if result.copies_from is None
            else f"A passage that was read up to {result.copies_from:,} tokens before is clearly "
            "easier at the second reading."
        )
    next_command(f"groundup generate {quoted(find_run(config.run))}")


def _cells(difference: Difference) -> list[str]:
    return [f"{difference.mean:.4f}", f"{difference.low:.4f} to {difference.high:.4f}"]
