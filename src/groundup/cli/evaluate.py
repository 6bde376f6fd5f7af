"""`groundup evaluate`: the model beside counting and compressing, on the very same bytes."""

from groundup.base.errors import quoted
from groundup.cli.console import next_command, note, table, warn
from groundup.evaluation.evaluate import N_CONTEXT_BYTES, EvaluateConfig, Evaluation, evaluate


def run(config: EvaluateConfig) -> Evaluation:
    """Measure a run and say plainly where it stands."""
    result = evaluate(config)
    size = f"{result.n_bytes:,} bytes, {result.n_targets:,} tokens"
    table(
        f"Held-out text: {size}, each predicted once",
        ["who predicts", "bits per byte", "what it knows"],
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
                "every repetition, with the training text in its window "
                f"({result.xz_alone_bits_per_byte:.3f} without it)",
            ],
            ["no idea at all", "8.000", "every byte alike"],
        ],
    )
    note(
        f"Loss {result.nats:.4f} nats a token, perplexity {result.perplexity:.1f}: the model "
        f"hesitates as if between {result.perplexity:.0f} equally likely tokens."
    )
    gap = result.nats - result.train_nats
    note(
        f"On its training text the loss is {result.train_nats:.4f}: {abs(gap):.2f} nats "
        f"{'lower' if gap > 0 else 'higher'}, "
        f"{'the part it has learnt by heart' if gap > 0 else 'no sign of learning by heart'}."
    )
    if result.lost_to:
        warn(
            f"The model loses to {' and to '.join(result.lost_to)}: as a predictor of this text it "
            "is not worth its training yet. More text, more steps or another size may help."
        )
    else:
        note("It beats both yardsticks.")
    next_command(f"groundup generate {quoted(config.run)}")
    return result
