"""`groundup prefer`: tune an assistant on preferences; show what changed, beside baselines."""

from groundup.alignment.prefer.config import PreferConfig
from groundup.alignment.prefer.prefer import prefer
from groundup.alignment.prefer.result import PreferResult, accuracy_rows, change_rows
from groundup.base.duration import span
from groundup.base.errors import quoted
from groundup.cli.cells import shorten
from groundup.cli.console import next_command, note, plural, table, warn
from groundup.cli.finetune_plan_view import show_plan
from groundup.cli.finetune_view import shown
from groundup.cli.stage_bars import stage_bars
from groundup.finetune.plan import FineTuningPlan
from groundup.train.step import Step


def run(config: PreferConfig) -> PreferResult | FineTuningPlan:
    """Tune an assistant and show the result."""
    result = _with_progress(config)
    if isinstance(result, FineTuningPlan):
        show_plan(result, "pairs", config.folds)
        return result
    with shown(result.folder):
        note(f"{result.training} Saved in {result.folder}/ after {result.elapsed_s:.0f} s.")
        note(
            f"Training set: {plural(result.n_train, 'pair')}. Validation set: "
            f"{plural(result.n_validation, 'pair')}. Test set: {plural(result.n_test, 'pair')}."
        )
        if result.reference_from is not None:
            note(f"Reference log-probabilities: read from {result.reference_from}.")
        for sentence in [*result.reading.sentences(), *result.left_out]:
            warn(sentence)
        if result.merge is not None:
            note(result.merge.sentence)
        _show_test(result)
        for warning in result.warnings:
            warn(warning)
        next_command(f"groundup chat {quoted(result.folder)}")
    return result


def _with_progress(config: PreferConfig) -> PreferResult | FineTuningPlan:
    with stage_bars() as bar:
        training = ""

        def on_reference(done: int, n_pairs: int) -> None:
            if line := bar("reference", n_pairs):
                line.update(done, f"{done}/{n_pairs} pairs")

        def on_training(name: str) -> None:
            nonlocal training
            training = name

        def on_step(step: Step) -> None:
            if line := bar(training, step.n_steps):
                loss, rate = f"{step.loss_nats:.3f}", f"{step.targets_per_s:.1f} pairs/s"
                line.update(step.step, loss=loss, rate=rate, eta=span(step.eta_s))

        return prefer(config, on_step, on_reference, on_training)


def _show_test(result: PreferResult) -> None:
    reports = result.reports()
    if not reports:
        return
    for what, rows in (
        ("Preference accuracy on the test set in %", accuracy_rows(reports)),
        ("Mean change of log p of an answer in nats", change_rows(reports)),
    ):
        table(f"{what}, with 95 % intervals", ["", *reports], rows)
    if not result.has_near_duplicates:
        note("No test prompt has a near duplicate in the training set.")
    if result.samples:
        table(
            "Test prompts",
            ["prompt", "before", "after"],
            [[shorten(text, 60) for text in (s.prompt, s.before, s.after)] for s in result.samples],
        )
    for sentence in result.verdict:
        (warn if sentence.startswith("WARNING") else note)(sentence.removeprefix("WARNING: "))
