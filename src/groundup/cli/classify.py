"""`groundup classify`: train a classifier; show its scores beside those of the baselines."""

import shlex

from groundup.base.errors import quoted
from groundup.cli.console import next_command, note, span, table, typed, warn
from groundup.cli.finetune_plan_view import show_plan
from groundup.cli.finetune_view import shown
from groundup.cli.stage_bars import stage_bars
from groundup.finetune.classify.classify import classify
from groundup.finetune.classify.config import ClassifyConfig
from groundup.finetune.classify.cost import ClassifyPlan, plan_classify
from groundup.finetune.classify.examples import Examples
from groundup.finetune.classify.metrics import Scores
from groundup.finetune.classify.result import ClassifyResult, ModelScores
from groundup.train.loop import Step


def run(config: ClassifyConfig) -> ClassifyResult | None:
    """Train a classifier and show the result; None if only the cost was asked for."""
    if config.plan_only:
        _show_plan(plan_classify(config))
        return None

    def on_examples(examples: Examples) -> None:
        note(examples.audit)
        sizes = (examples.split.train, examples.split.validation, examples.split.test)
        train, validation, test = map(len, sizes)
        for sentence in (*examples.notes, *examples.reading.sentences()):
            note(sentence)
        note(
            f"Labels: {examples.source}. {train:,} training, {validation:,} validation and "
            f"{test:,} test texts of {len(examples.names)} classes."
        )

    with stage_bars() as bar:

        def on_tokens(done: int, total: int) -> None:
            if line := bar("hidden states", total):
                line.update(done, f"{done:,} of {total:,} tokens")

        def on_scores(models: list[ModelScores]) -> None:
            bar("", None)
            _show_scores(models)

        def on_step(step: Step) -> None:
            if line := bar("training", step.n_steps):
                line.update(step.step, loss=f"{step.loss_nats:.3f}", eta=span(step.eta_s))

        result = classify(config, on_step, on_examples, on_tokens, on_scores)
    with shown(result.folder):
        for sentence in result.not_read:
            note(sentence)
        _show_scores(result.models)
        _show_model(result)
        for warning in result.warnings:
            warn(warning)
        files = "report.html, README.md" if not result.warnings else "see the warnings"
        size = f"{result.n_bytes / 1e6:,.1f} MB"
        note(f"Saved in {result.folder}/ ({files}; {size}) after {result.elapsed_s:.0f} s.")
        next_command(f'groundup predict {quoted(result.folder)} --text "Hello"')
    return result


def _show_plan(plan: ClassifyPlan) -> None:
    low, expected, high = map(span, plan.frozen_s)
    note(
        f"Frozen model: {plan.n_tokens:,} tokens of {plan.n_texts:,} texts in {expected} ({low} to "
        f"{high}), at {plan.tokens_per_s:,.0f} tokens/s. Hidden states on the disk: "
        f"{plan.features_bytes / 1e6:,.1f} MB."
    )
    if plan.tuning is not None:
        show_plan(plan.tuning, "texts")
    else:
        words = (word for word in typed if word != "--plan-only")
        next_command(shlex.join(["groundup", *words]))


def _show_scores(models: list[ModelScores]) -> None:
    if not models:
        return
    head = ["model", "log loss", "AUC", "AP", "bal acc", "accuracy % (95 %)"]
    sets = {"All test texts": [(model.name, model.all) for model in models]}
    new = [(model.name, model.no_near) for model in models if model.no_near is not None]
    if new and models[0].no_near == models[0].all:
        sets = {"All test texts, none of which has a near duplicate in training": new}
    elif new:
        sets["Test texts without a near duplicate in training"] = new
    for title, found in sets.items():
        rows = [_row(name, scores) for name, scores in found]
        table(f"{title} ({found[0][1].n:,})", head, rows)


def _row(name: str, scores: Scores) -> list[str]:
    curves = ["–" if v is None else f"{v:.4f}" for v in (scores.auc, scores.average_precision)]
    low, high = 100 * scores.accuracy.low, 100 * scores.accuracy.high
    return [
        name,
        f"{scores.log_loss_nats:.4f}",
        *curves,
        f"{100 * scores.balanced_accuracy:.1f}",
        f"{100 * scores.accuracy.value:.1f} ({low:.1f}–{high:.1f})",
    ]


def _show_model(result: ClassifyResult) -> None:
    model = result.model
    (note if model is not None else warn)(result.verdict)
    if model is None:
        return
    if model.calibration is not None:
        note(model.calibration.sentence)
    shown_f1 = list(model.all.f1.items())[:6]
    more = ", ..." if len(model.all.f1) > len(shown_f1) else ""
    note(f"F1 by class: {', '.join(f'{name} {value:.3f}' for name, value in shown_f1)}{more}.")
