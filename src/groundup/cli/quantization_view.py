"""`groundup evaluate RUN --quantize int8`: what a reduced form of the weights costs."""

from groundup.cli.console import note, table
from groundup.evaluation.evaluate import EvaluateResult


def show_reduced(result: EvaluateResult) -> None:
    """Print the loss of both forms, if a reduced one was asked for."""
    cost = result.reduced
    if cost is None:
        return
    table(
        f"Generation with {cost.form}, on {cost.n_targets:,} tokens of the validation set",
        ["", "float32", "reduced"],
        [
            ["bits/byte", f"{cost.exact_bits_per_byte:.4f}", f"{cost.reduced_bits_per_byte:.4f}"],
            ["same most likely token", "", f"{cost.agreement_frac:.1%}"],
            ["divergence, nats/token", "", f"{cost.divergence_nats:.2g}"],
            ["divergence of the worst passage", "", f"{cost.worst.divergence_nats:.2g}"],
        ],
    )
    note(f"The worst passage begins: {result.worst_passage[:100]!r}")
