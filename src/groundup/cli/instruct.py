"""`groundup instruct`: fine-tune an assistant; show its answers beside those of the baselines."""

from groundup.base.errors import quoted
from groundup.cli.console import next_command, note, style, warn
from groundup.cli.finetune_plan_view import show_plan
from groundup.cli.finetune_view import shown
from groundup.cli.instruct_view import Stages, show_prepared, show_test
from groundup.cli.trained_tokens import show_tokens
from groundup.finetune.instruct.config import InstructConfig
from groundup.finetune.instruct.instruct import instruct, plan_instruct, show_records
from groundup.finetune.instruct.result import InstructResult
from groundup.finetune.instruct.testing import Callbacks
from groundup.train.curve_checks import PLATEAU, Finding


def _show_finding(finding: Finding) -> None:
    # The questions of a story are more than a small model can learn, so its loss levels off.
    if not (style.is_brief and finding.rule == PLATEAU):
        warn(f"{finding.rule}: {finding}")


def run(config: InstructConfig) -> InstructResult | None:
    """Fine-tune an assistant and show the result, or only the tokens of records, or the cost."""
    if config.show is not None:
        show_tokens(show_records(config))
        return None
    if config.plan_only:
        show_plan(plan_instruct(config), "trained tokens", config.folds)
        return None
    with Stages() as stages:
        callbacks = Callbacks(
            on_step=stages.on_step,
            on_answer=stages.on_answer,
            on_finding=_show_finding,
            on_fold=lambda number, n: note(f"Fold {number} of {n}:"),
        )
        result = instruct(config, callbacks, show_prepared)
    with shown(result.folder):
        note(f"Saved in {result.folder}/ after {result.elapsed_s:.0f} s.")
        if not style.is_brief:
            note(result.loss)
            if result.merge is not None:
                note(result.merge.sentence)
        note(result.forgetting)
        if result.evaluation is not None:
            show_test(result, result.evaluation)
        for warning in result.warnings:
            warn(warning)
        next_command(f"groundup chat {quoted(result.folder)}")
    return result
