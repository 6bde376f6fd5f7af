"""What `groundup instruct` prints: the data, the progress, the scores and some examples."""

from contextlib import ExitStack

from groundup.base.duration import span
from groundup.cli.cells import mark, shorten
from groundup.cli.console import Line, console, note, plural, progress, style, table, warn
from groundup.evaluation.paired import MIN_ITEMS
from groundup.finetune.instruct import baselines
from groundup.finetune.instruct.evaluation import COLUMNS, Evaluation, table_of
from groundup.finetune.instruct.result import InstructResult, Prepared
from groundup.train.step import Step

_N_EXAMPLES = 3


class Stages:
    """The progress line of the stage that is running: answers of a system, or training."""

    def __init__(self) -> None:
        self._stack, self._name = ExitStack(), ""
        self._line: Line | None = None

    def on_answer(self, name: str, n: int, total: int) -> None:
        """Show how many test prompts were answered."""
        self._line_of(f"answers, {name}", total).update(n, f"{n}/{total}")

    def on_step(self, step: Step) -> None:
        """Show how far the training is."""
        self._line_of("training", step.n_steps).update(
            step.step,
            f"{step.step}/{step.n_steps}",
            f"loss {step.loss_nats:.3f}",
            f"{step.targets_per_s:.0f} answer tokens/s",
            f"eta {span(step.eta_s)}",
        )

    def __enter__(self) -> "Stages":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _line_of(self, name: str, total: int) -> Line:
        if self._line is None or name != self._name:
            self._stack.close()
            self._name = name
            self._line = self._stack.enter_context(progress(name, total))
        self._line.total = total  # under a budget, the current estimate
        return self._line


def show_prepared(prepared: Prepared) -> None:
    """Print what the audit found, and what will be trained."""
    note(prepared.audit)
    if prepared.added_tokens:
        note(
            "The tokenizer had no chat tokens. Added, with new rows of the embedding: "
            f"{', '.join(prepared.added_tokens)}."
        )
    for sentence in prepared.left_out:
        warn(sentence)
    if style.is_brief:
        return
    plain = ""
    if prepared.n_plain_rows:
        plain = f", and {plural(prepared.n_plain_rows, 'row')} of plain text"
    trained = "low-rank adapters (LoRA)" if prepared.method == "lora" else "all weights"
    note(
        f"Training {trained}: {prepared.n_train:,} records, {prepared.n_train_tokens:,} tokens, "
        f"{prepared.n_answer_tokens:,} of them trained{plain}, in {prepared.n_steps:,} steps of "
        f"{prepared.batch_size} records."
    )


def show_test(result: InstructResult, evaluation: Evaluation) -> None:
    """Print the scores, what they mean, and some answers."""
    if result.is_synthetic:
        table(
            "Test set: right answers, and bits per answer token",
            ["kind", "n", "before", "after (95 %)", "bits before", "after"],
            [
                [
                    kind,
                    str(after.n),
                    f"{before.value:.0%}",
                    f"{after.value:.0%} ({100 * after.low:.0f}–{100 * after.high:.0f})",
                    *result.bits(kind),
                ]
                for kind, before, after in result.shares()
            ],
        )
    else:
        _show_scores(evaluation)
        if result.no_few_shot:
            note(result.no_few_shot)
    for sentence in result.verdict[:2] if style.is_brief else result.verdict:
        note(sentence)
    if result.cut_answers:
        warn(result.cut_answers)
    _show_examples(evaluation)
    if not style.is_brief:
        note(f"All answers to the test prompts: {result.folder / 'samples' / 'answers.md'}")


def _show_scores(evaluation: Evaluation) -> None:
    n, n_new = len(evaluation.items), sum(evaluation.is_new)
    n_keys = sum(item.has_key is not None for item in evaluation.items)
    table(
        f"Test set: {n:,} records, {n_keys:,} with a key",
        list(COLUMNS),
        table_of(evaluation, [True] * n),
    )
    if 0 < n_new < n:
        table(
            f"The {n_new} of them without a near duplicate in the training set",
            list(COLUMNS),
            table_of(evaluation, evaluation.is_new),
        )
    if n < MIN_ITEMS:
        warn(f"{n} test records are too few to compare ({MIN_ITEMS} are needed).")


def _show_examples(evaluation: Evaluation) -> None:
    """Print answers to prompts of different kinds, before and after."""
    tuned, untuned = (evaluation.answers[name] for name in (baselines.TUNED, baselines.UNTUNED))
    numbers = range(0, len(tuned), max(1, len(tuned) // _N_EXAMPLES))
    if style.is_brief:  # the table has the rest
        numbers = range(0)
    else:
        note("\nExamples from the test set:")
    for index in numbers[:_N_EXAMPLES]:
        item, answer = evaluation.items[index], tuned[index]
        is_right = answer.exact if answer.key is None else answer.key
        n = console.width - 14
        for name, text in (
            ("prompt", item.prompt),
            ("before", untuned[index].text),
            ("after", f"{shorten(answer.text, n - 2)} {mark(is_right)}"),
            ("expected", item.reference),
        ):
            note(f"  {name:<10} {shorten(text, n)}")
        note("")
