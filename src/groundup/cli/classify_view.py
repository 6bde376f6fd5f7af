"""How `groundup classify` prints scores, the saved classifier, and the cost of a run."""

from groundup.base.duration import span
from groundup.cli.console import next_typed, note, style, table, warn
from groundup.cli.finetune_plan_view import show_plan
from groundup.finetune.classify.cost import ClassifyPlan
from groundup.finetune.classify.metrics import Scores
from groundup.finetune.classify.result import ClassifyResult, ModelScores


def show_cost(plan: ClassifyPlan) -> None:
    """Print the cost of a classifier, and the command that trains it."""
    low, expected, high = map(span, plan.frozen_s)
    note(
        f"Frozen model: {plan.n_tokens:,} tokens of {plan.n_texts:,} texts in {expected} ({low} to "
        f"{high}), at {plan.tokens_per_s:,.0f} tokens/s. Hidden states on the disk: "
        f"{plan.features_bytes / 1e6:,.1f} MB."
    )
    if plan.tuning is not None:
        show_plan(plan.tuning, "texts")
    else:
        next_typed(["--no-plan-only"])


def show_scores(models: list[ModelScores]) -> None:
    """Print the scores on all test texts, and on those without a near duplicate in training."""
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


def show_model(result: ClassifyResult) -> None:
    """Print the verdict, the calibration and the F1 of the saved classifier."""
    model = result.model
    (note if model is not None else warn)(result.verdict)
    if model is None or style.is_brief:
        return
    if model.calibration is not None:
        note(model.calibration.sentence)
    shown_f1 = list(model.all.f1.items())[:6]
    more = ", ..." if len(model.all.f1) > len(shown_f1) else ""
    note(f"F1 by class: {', '.join(f'{name} {value:.3f}' for name, value in shown_f1)}{more}.")
