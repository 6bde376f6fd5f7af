"""`groundup instruct`: fine-tune an assistant; show its answers before and after."""

from groundup.base.errors import quoted
from groundup.base.folder_kinds import find_run
from groundup.cli.console import next_command, note, table, warn
from groundup.cli.finetune_view import interval, mark, shorten, step_progress
from groundup.evaluation.intervals import Share
from groundup.finetune.instruct.config import InstructConfig
from groundup.finetune.instruct.instruct import Answer, InstructResult, instruct


def run(config: InstructConfig) -> InstructResult:
    """Fine-tune an assistant and show the result."""
    with step_progress("instruct", config.steps, "answer tokens") as on_step:
        result = instruct(config, on_step)
    note(
        f"Training set: {result.n_records:,} records. Test set: {len(result.answers):,} records. "
        "Only the answers are targets of the loss."
    )
    if result.n_too_long:
        warn(f"Records left out because the prompt fills the context: {result.n_too_long}.")
    kinds = result.by_kind() if result.is_synthetic else {}
    table(
        "Accuracy on the test set",
        ["kind", "prompts", "before", "after", "95 % interval (after)"],
        [
            *(_row(kind, *shares) for kind, shares in kinds.items()),
            _row("all", result.before, result.after),
        ],
    )
    note(
        f"Test loss: {result.loss_before_nats:.3f} nats/token before fine-tuning, "
        f"{result.loss_after_nats:.3f} after."
    )
    table(
        "Examples from the test set",
        ["", "prompt", "before", "after", "expected"],
        [
            [
                mark(answer.right_after),
                shorten(answer.record.prompt, 60),
                shorten(answer.before, 30),
                shorten(answer.after, 60),
                shorten(answer.record.output, 60),
            ]
            for answer in examples(result.answers)
        ],
    )
    note(result.verdict)
    note(f"Saved in {result.folder}/ after {result.elapsed_s:.0f} s.")
    note(f"All answers to the test prompts: {result.folder / 'samples' / 'answers.md'}")
    next_command(f"groundup chat {quoted(find_run(config.run))}")
    return result


def _row(kind: str, before: Share, after: Share) -> list[str]:
    return [kind, str(after.n), f"{before.value:.1%}", f"{after.value:.1%}", interval(after)]


def examples(answers: list[Answer], n: int = 9) -> list[Answer]:
    """Select the first answer of each kind, or `n` answers if there are no kinds."""
    kinds = dict.fromkeys(answer.record.kind for answer in answers)
    if len(kinds) > 1:
        return [next(a for a in answers if a.record.kind == kind) for kind in kinds]
    return answers[:: max(1, len(answers) // n)][:n]
