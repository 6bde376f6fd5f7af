"""`groundup classify`: fine-tune a classifier; show its accuracy, the baselines and some errors."""

from groundup.base.errors import quoted
from groundup.base.folder_kinds import find_run
from groundup.base.run import RunFolder
from groundup.cli.console import note, table, warn
from groundup.cli.finetune_view import interval, mark, next_stage, shorten, shown, step_progress
from groundup.finetune.classify.classify import classify
from groundup.finetune.classify.config import ClassifyConfig
from groundup.finetune.classify.result import ClassifyResult, Prediction


def run(config: ClassifyConfig) -> ClassifyResult:
    """Fine-tune a classifier and show the result."""
    with step_progress("classify", config.steps, "texts") as on_step:
        result = classify(config, on_step)
    with shown(result.folder):
        note(f"Saved in {result.folder}/ after {result.elapsed_s:.0f} s.")
        _show_data(config, result)
        _show_accuracy(result)
        for warning in result.warnings:
            warn(warning)
        run_folder = find_run(config.run)
        next_stage("instruct", run_folder, f"groundup export {quoted(run_folder)}")
    return result


def _show_data(config: ClassifyConfig, result: ClassifyResult) -> None:
    note(
        f"Labels: {result.source}. Training set: {result.n_train:,} texts. Test set: "
        f"{result.n_test:,} texts. Classes: {len(result.names)}."
    )
    for sentence in result.not_used:
        note(sentence)
    if config.labels is None and not RunFolder.of(find_run(config.run)).is_imported:
        note("The model was pretrained on the text of these documents, but not on these labels.")


def _show_accuracy(result: ClassifyResult) -> None:
    if result.accuracy is None:
        return
    table(
        "Accuracy on the test set",
        ["model", "correct", "accuracy", "95 % interval"],
        [
            [name, f"{share.n_right} of {share.n}", f"{share.value:.1%}", interval(share)]
            for name, share in result.shares.items()
        ],
    )
    bag = result.bag_of_words
    is_worse = bag is not None and bag.n_right > result.accuracy.n_right
    (warn if is_worse else note)(result.verdict)
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


def examples(predictions: list[Prediction], n: int = 3) -> list[Prediction]:
    """Select `n` correct predictions, evenly spaced, and the `n` most confident errors."""
    correct = [p for p in predictions if p.is_correct]
    wrong = sorted((p for p in predictions if not p.is_correct), key=lambda p: -p.probability)
    return correct[:: max(1, len(correct) // n)][:n] + wrong[:n]
