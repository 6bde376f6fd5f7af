"""`groundup classify`: tune a classifier; show its accuracy beside simpler means, and mistakes."""

from groundup.base.errors import quoted
from groundup.cli.console import next_command, note, progress, table, warn
from groundup.evaluation.intervals import Share
from groundup.finetune.classify.classify import ClassifyConfig, ClassifyResult, Prediction, classify
from groundup.train.loop import Step


def run(config: ClassifyConfig) -> ClassifyResult:
    """Tune and show."""
    with progress("classify", config.steps) as bar:

        def on_step(step: Step) -> None:
            bar.update(
                completed=step.step,
                loss=f"{step.loss_nats:.3f}",
                rate=f"{step.targets_per_s:.0f} texts/s",
                eta=f"{step.eta_s:.0f} s",
            )

        result = classify(config, on_step)
    note(
        f"{result.source}: {result.n_train:,} texts to learn from, {result.n_test:,} to test on, "
        f"{len(result.names)} classes."
    )
    if result.n_duplicates:
        note(f"{result.n_duplicates} texts occur twice and were left out of the test or entirely.")
    if result.n_cut:
        note(f"{result.n_cut} texts are longer than {config.max_tokens} tokens and were cut there.")
    if config.labels is None:
        note("The model has read these documents before, but never with their names.")
    table(
        "Accuracy on the test texts",
        ["", "right", "accuracy", "95 % interval"],
        [
            _row("tuned model", result.accuracy),
            _row("bag of words, logistic regression", result.bag_of_words),
            _row("always the commonest class", result.majority),
        ],
    )
    if result.bag_of_words.n_right > result.accuracy.n_right:
        warn(result.verdict)
    else:
        note(result.verdict)
    table(
        "Confusion: a row for each true class, a column for each answer",
        ["true class", *result.names],
        [
            [name, *map(str, counts)]
            for name, counts in zip(result.names, result.confusion, strict=True)
        ],
    )
    table(
        "Some test texts",
        ["", "true", "answered", "sure", "text"],
        [
            [
                "✓" if p.right else "✗",
                p.label,
                p.predicted,
                f"{p.probability:.0%}",
                _shorten(p.text),
            ]
            for p in examples(result.predictions)
        ],
    )
    note(f"Kept in {result.folder}/, {result.elapsed_s:.0f} s.")
    next_command(f"groundup instruct {quoted(config.run)}")
    return result


def examples(predictions: list[Prediction], n_right: int = 3, n_wrong: int = 3) -> list[Prediction]:
    """A few right answers spread over the test, and the mistakes the classifier was surest of."""
    right = [p for p in predictions if p.right]
    wrong = sorted((p for p in predictions if not p.right), key=lambda p: -p.probability)
    return right[:: max(1, len(right) // n_right)][:n_right] + wrong[:n_wrong]


def _row(name: str, share: Share) -> list[str]:
    interval = f"{share.low:.1%} to {share.high:.1%}"
    return [name, f"{share.n_right} of {share.n}", f"{share.value:.1%}", interval]


def _shorten(text: str, n_characters: int = 90) -> str:
    text = " ".join(text.split())
    return text if len(text) <= n_characters else text[: n_characters - 1] + "…"
