"""`groundup evaluate RUN --needle N`: what the model retrieves from texts of N tokens."""

from groundup.base.errors import quoted
from groundup.base.folder_kinds import find_run
from groundup.cli.cells import interval
from groundup.cli.console import next_command, note, table
from groundup.evaluation.config import EvaluateConfig
from groundup.evaluation.needle import measure_needle


def show_needle(config: EvaluateConfig) -> None:
    """Measure retrieval and print the recall at each depth."""
    result = measure_needle(config)
    table(
        f"Values that the model tells at the end of texts of {result.n_tokens:,} tokens",
        ["depth", "tokens back", "recall", "of", "share", "95 % interval"],
        [
            [
                f"{e.depth_frac:.0%}",
                f"{e.n_back:,}",
                f"{e.recall.n_right}",
                f"{e.recall.n}",
                f"{e.recall.value:.0%}",
                interval(e.recall),
            ]
            for e in result.depths
        ],
    )
    note(
        f"The recall is clearly above chance, {result.chance:.1%}, at {result.n_found} of "
        f"{len(result.depths)} depths."
    )
    if result.n_tokens > result.context_length:
        note(
            f"The model was trained with {result.context_length:,} tokens, and these texts are "
            "longer."
        )
    next_command(f"groundup generate {quoted(find_run(config.run))}")
