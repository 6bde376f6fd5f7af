"""`groundup classify`: fine-tune a classifier; show its accuracy, the baselines and some errors."""

from groundup.base.errors import quoted
from groundup.base.folder_kinds import find_run
from groundup.cli.console import next_command, note, table, warn
from groundup.cli.finetune_view import interval, mark, shorten, step_progress
from groundup.finetune.classify.classify import ClassifyResult, Prediction, classify
from groundup.finetune.classify.config import ClassifyConfig


def run(config: ClassifyConfig) -> ClassifyResult:
    """Fine-tune a classifier and show the result."""
    with step_progress("classify", config.steps, "texts") as on_step:
        result = classify(config, on_step)
    _show_data(config, result)
    _show_accuracy(result)
    table(
        "Confusion matrix (rows: true class; columns: predicted class)",
        ["", *result.names],
        [
            [name, *map(str, counts)]
            for name, counts in zip(result.names, result.confusion, strict=True)
        ],
    )
    table(
        "Examples from the test set",
        ["", "true class", "predicted class", "probability", "text"],
        [
            [mark(p.is_correct), p.label, p.predicted, f"{p.probability:.0%}", shorten(p.text, 90)]
            for p in examples(result.predictions)
        ],
    )
    note(f"Saved in {result.folder}/ after {result.elapsed_s:.0f} s.")
    next_command(f"groundup instruct {quoted(find_run(config.run))}")
    return result


def _show_data(config: ClassifyConfig, result: ClassifyResult) -> None:
    note(
        f"Labels: {result.source}. Training set: {result.n_train:,} texts. Test set: "
        f"{result.n_test:,} texts. Classes: {len(result.names)}."
    )
    if result.n_duplicates:
        note(f"Duplicate texts left out: {result.n_duplicates}.")
    if result.n_cut:
        note(f"Texts truncated to at most {config.max_tokens} tokens: {result.n_cut}.")
    if config.labels is None:
        note("The model was pretrained on the text of these documents, but not on these labels.")


def _show_accuracy(result: ClassifyResult) -> None:
    models = {
        "fine-tuned model": result.accuracy,
        "bag-of-words baseline": result.bag_of_words,
        "majority-class baseline": result.majority,
    }
    table(
        "Accuracy on the test set",
        ["model", "correct", "accuracy", "95 % interval"],
        [
            [name, f"{share.n_right} of {share.n}", f"{share.value:.1%}", interval(share)]
            for name, share in models.items()
        ],
    )
    is_worse = result.bag_of_words.n_right > result.accuracy.n_right
    (warn if is_worse else note)(result.verdict)


def examples(predictions: list[Prediction], n: int = 3) -> list[Prediction]:
    """Select `n` correct predictions, evenly spaced, and the `n` most confident errors."""
    correct = [p for p in predictions if p.is_correct]
    wrong = sorted((p for p in predictions if not p.is_correct), key=lambda p: -p.probability)
    return correct[:: max(1, len(correct) // n)][:n] + wrong[:n]
