"""`groundup instruct`: tune an assistant; show what it answers before and after."""

from groundup.base.errors import quoted
from groundup.cli.console import next_command, note, progress, table, warn
from groundup.evaluation.intervals import Share
from groundup.finetune.instruct.instruct import Answer, InstructConfig, InstructResult, instruct
from groundup.train.loop import Step


def run(config: InstructConfig) -> InstructResult:
    """Tune and show."""
    with progress("instruct", config.steps) as bar:

        def on_step(step: Step) -> None:
            bar.update(
                completed=step.step,
                loss=f"{step.loss_nats:.3f}",
                rate=f"{step.targets_per_s:.0f} answer tokens/s",
                eta=f"{step.eta_s:.0f} s",
            )

        result = instruct(config, on_step)
    note(
        f"Learnt from {result.n_records:,} conversations; {len(result.answers)} others are the "
        "test. The loss counts on the answers only."
    )
    if result.n_too_long:
        warn(f"{result.n_too_long} records were left out: their answers begin beyond the context.")
    rows = [_row(kind, *shares) for kind, shares in result.by_kind().items() if result.own_lessons]
    table(
        "Held-out prompts answered rightly",
        ["kind", "prompts", "before", "after", "95 % interval"],
        [*rows, _row("all", result.before, result.after)],
    )
    note(
        "Loss per answer token on the held-out prompts: "
        f"{result.loss_before_nats:.3f} nats before, {result.loss_after_nats:.3f} after."
    )
    table(
        "Some of them, word for word",
        ["", "prompt", "before", "after", "expected"],
        [
            [
                "✓" if answer.right_after else "✗",
                _shorten(answer.record.prompt),
                _shorten(answer.before, 30),
                _shorten(answer.after),
                _shorten(answer.record.output),
            ]
            for answer in examples(result.answers)
        ],
    )
    note(honest_sentence(result))
    note(f"Kept in {result.folder}/, {result.elapsed_s:.0f} s; all answers in samples/answers.md.")
    next_command(f"groundup chat {quoted(config.run)}")
    return result


_COIN = "is it there"


def examples(answers: list[Answer], n: int = 9) -> list[Answer]:
    """The first prompt of each kind; of records of no kind, `n` spread over the test."""
    kinds = dict.fromkeys(answer.record.kind for answer in answers)
    if len(kinds) > 1:
        return [next(a for a in answers if a.record.kind == kind) for kind in kinds]
    return answers[:: max(1, len(answers) // n)][:n]


def honest_sentence(result: InstructResult) -> str:
    """Say in one sentence, from the numbers, what this model can do and what not."""
    if not result.own_lessons:
        return (
            f"{result.after.n_right} of {result.after.n} answers are word for word the expected, "
            "the only verdict a program can give on free text; read a few before you trust it."
        )
    shares = {kind: after for kind, (_, after) in result.by_kind().items()}
    # A coin answers half of the yes-or-no questions rightly.
    learnt = [k for k, share in shares.items() if share.value >= (0.75 if k == _COIN else 0.5)]
    failed = [kind for kind, share in shares.items() if share.value < 0.2]
    able = f"learnt {', '.join(learnt)}" if learnt else "learnt no kind reliably"
    unable = f" and fails at {', '.join(failed)}" if failed else ""
    return (
        f"So small a model has {able}{unable}: it follows patterns it was drilled in, and whatever "
        "else it is asked it will answer in the same few sentences, sure of itself and wrong."
    )


def _row(kind: str, before: Share, after: Share) -> list[str]:
    interval = f"{after.low:.0%} to {after.high:.0%}"
    return [kind, str(after.n), f"{before.value:.0%}", f"{after.value:.0%}", interval]


def _shorten(text: str, n_characters: int = 60) -> str:
    text = " ".join(text.split())
    if text and text.count("\N{REPLACEMENT CHARACTER}") > len(text) / 2:
        return "(bytes that are no text)"
    return text if len(text) <= n_characters else text[: n_characters - 1] + "…"
