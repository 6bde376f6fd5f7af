"""`groundup instruct`: fine-tune an assistant; show its answers beside those of the baselines."""

from contextlib import ExitStack

from groundup.base.errors import quoted
from groundup.cli.console import Line, console, next_command, note, progress, span, table, warn
from groundup.cli.finetune_view import interval, mark, shorten, shown
from groundup.cli.trained_tokens import show_tokens
from groundup.evaluation.paired import MIN_ITEMS
from groundup.finetune.instruct import baselines
from groundup.finetune.instruct.config import InstructConfig
from groundup.finetune.instruct.evaluation import COLUMNS, Evaluation, table_of
from groundup.finetune.instruct.instruct import instruct, show_records
from groundup.finetune.instruct.result import InstructResult, Prepared
from groundup.finetune.instruct.testing import Callbacks
from groundup.train.loop import Step

_N_EXAMPLES = 3


def run(config: InstructConfig) -> InstructResult | None:
    """Fine-tune an assistant and show the result, or only show the tokens of records."""
    if config.show is not None:
        show_tokens(show_records(config))
        return None
    with _Stages() as stages:
        callbacks = Callbacks(
            on_step=stages.on_step,
            on_answer=stages.on_answer,
            on_finding=lambda finding: warn(f"{finding.rule}: {finding}"),
            on_fold=lambda number, n: note(f"Fold {number} of {n}:"),
        )
        result = instruct(config, callbacks, _show_prepared)
    with shown(result.folder):
        note(f"Saved in {result.folder}/ after {result.elapsed_s:.0f} s.")
        note(result.loss)
        note(result.forgetting)
        if result.evaluation is not None:
            _show_test(result, result.evaluation)
        for warning in result.warnings:
            warn(warning)
        next_command(f"groundup chat {quoted(result.folder)}")
    return result


class _Stages:
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

    def __enter__(self) -> "_Stages":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _line_of(self, name: str, total: int) -> Line:
        if self._line is None or name != self._name:
            self._stack.close()
            self._name = name
            self._line = self._stack.enter_context(progress(name, total))
        return self._line


def _show_prepared(prepared: Prepared) -> None:
    note(prepared.audit)
    if prepared.added_tokens:
        note(
            "The tokenizer had no chat tokens. Added, with new rows of the embedding: "
            f"{', '.join(prepared.added_tokens)}."
        )
    for sentence in prepared.left_out:
        warn(sentence)
    trained = "low-rank adapters (LoRA)" if prepared.recipe == "lora" else "all weights"
    note(
        f"Training {trained}: {prepared.n_train:,} records, {prepared.n_train_tokens:,} tokens, "
        f"{prepared.n_answer_tokens:,} of them trained, in {prepared.n_steps:,} steps of "
        f"{prepared.batch_size} records."
    )


def _show_test(result: InstructResult, evaluation: Evaluation) -> None:
    if result.is_synthetic:
        table(
            "Accuracy on the test set",
            ["kind", "prompts", "before", "after", "95 % interval (after)"],
            [
                [kind, str(after.n), f"{before.value:.1%}", f"{after.value:.1%}", interval(after)]
                for kind, before, after in result.shares()
            ],
        )
    else:
        _show_scores(evaluation)
    for sentence in result.verdict:
        note(sentence)
    if result.cut_answers:
        warn(result.cut_answers)
    _show_examples(evaluation)
    note(f"All answers to the test prompts: {result.folder / 'samples' / 'answers.md'}")


def _show_scores(evaluation: Evaluation) -> None:
    n, n_new = len(evaluation.items), sum(evaluation.is_new)
    n_keys = sum(item.has_key is not None for item in evaluation.items)
    table(
        f"Test set: {n} records, {n_keys} with a key",
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
