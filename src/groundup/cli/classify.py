"""`groundup classify`: train a classifier; show its scores beside those of the baselines."""

from groundup.base.duration import span
from groundup.base.errors import quoted
from groundup.cli.classify_view import show_cost, show_model, show_scores
from groundup.cli.console import next_command, note, style, warn
from groundup.cli.finetune_view import shown
from groundup.cli.stage_bars import stage_bars
from groundup.finetune.classify.classify import classify
from groundup.finetune.classify.config import ClassifyConfig
from groundup.finetune.classify.cost import plan_classify
from groundup.finetune.classify.examples import Examples
from groundup.finetune.classify.result import ClassifyResult, ModelScores
from groundup.train.step import Step


def run(config: ClassifyConfig) -> ClassifyResult | None:
    """Train a classifier and show the result; None if only the cost was asked for."""
    if config.plan_only:
        show_cost(plan_classify(config))
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
            if not style.is_brief:  # the scores of all models follow
                show_scores(models)

        def on_step(step: Step) -> None:
            if line := bar("training", step.n_steps):
                line.update(step.step, loss=f"{step.loss_nats:.3f}", eta=span(step.eta_s))

        result = classify(config, on_step, on_examples, on_tokens, on_scores)
    with shown(result.folder):
        for sentence in result.not_read:
            note(sentence)
        show_scores(result.models)
        show_model(result)
        for warning in result.warnings:
            warn(warning)
        files = "report.html, README.md" if not result.warnings else "see the warnings"
        size = f"{result.n_bytes / 1e6:,.1f} MB"
        note(f"Saved in {result.folder}/ ({files}; {size}) after {result.elapsed_s:.0f} s.")
        next_command(f'groundup predict {quoted(result.folder)} --text "Hello"')
    return result
