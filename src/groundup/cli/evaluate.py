"""`groundup evaluate RUN`: the loss of the model, beside two baselines on the same bytes."""

from groundup.base.errors import quoted
from groundup.base.folder_kinds import find_run
from groundup.base.run import RunFolder
from groundup.cli.console import next_command, note, table, warn
from groundup.cli.context_view import show_context
from groundup.cli.memorization_view import show_memorization
from groundup.cli.needle_view import show_needle
from groundup.cli.quantization_view import show_reduced
from groundup.cli.task_view import show_task
from groundup.evaluation.config import EvaluateConfig
from groundup.evaluation.evaluate import N_CONTEXT_BYTES, EvaluateResult, evaluate


def run(config: EvaluateConfig) -> EvaluateResult | None:
    """Compare a run with the baselines. None: what was measured is not the result of the run."""
    others = (
        (config.tasks.task is not None, show_task),
        (config.recitations is not None or config.canary, show_memorization),
        (config.context, show_context),
        (config.needle is not None, show_needle),
    )
    for is_asked, show in others:
        if is_asked:
            show(config)
            return None
    result = evaluate(config)
    table(
        f"Validation set: {result.n_bytes:,} bytes, {result.n_targets:,} tokens, each predicted "
        + ("once" if result.documents == "stream" else "once inside its document"),
        ["model", "bits/byte", "information used"],
        [
            ["this model", f"{result.bits_per_byte:.3f}", f"checkpoint {result.checkpoint}"],
            [
                f"order-{N_CONTEXT_BYTES} n-gram",
                f"{result.ngram_bits_per_byte:.3f}",
                "how often each byte followed the three before it in the training text",
            ],
            [
                "xz",
                f"{result.xz_bits_per_byte:.3f}",
                "repeated strings, also those of the training text "
                f"({result.xz_alone_bits_per_byte:.3f} without it)",
            ],
            ["uniform baseline", "8.000", "none: each byte is equally likely"],
        ],
    )
    note(f"Validation loss: {result.nats:.4f} nats/token, perplexity {result.perplexity:.1f}.")
    gap = result.nats - result.train_nats
    if RunFolder.of(find_run(config.run)).is_imported:
        note(f"Loss on the training set of the data: {result.train_nats:.4f} nats/token.")
    else:
        note(
            f"Training loss: {result.train_nats:.4f} nats/token, {abs(gap):.2f} "
            f"{'lower: this gap measures overfitting' if gap > 0 else 'higher: no overfitting'}."
        )
    for folder in result.other_data:
        note(f"The run was also trained on {folder}; --data {quoted(folder)} evaluates on it.")
    show_reduced(result)
    if result.lost_to:
        warn(
            f"The model predicts this text worse than {' and '.join(result.lost_to)}. "
            "More text, more steps or another model size may help."
        )
    else:
        note("The model is better than both baselines.")
    next_command(f"groundup generate {quoted(find_run(config.run))}")
    return result if result.is_standard else None
