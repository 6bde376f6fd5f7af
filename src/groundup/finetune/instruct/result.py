"""What instruction tuning returns and writes: scores, counts, and the README."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from groundup.base.errors import quoted
from groundup.evaluation.intervals import Share, wilson
from groundup.evaluation.merged import MergeReport
from groundup.finetune.instruct import baselines
from groundup.finetune.instruct.evaluation import COLUMNS, Evaluation, by_kind, table_of
from groundup.finetune.instruct.synthetic import YES_OR_NO
from groundup.finetune.training import Trained
from groundup.text.left_out import LeftOut

_N_PROMPTS = 3


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What is known before training: what was read, and what will be trained."""

    n_read: int
    """Number of records before any was left out."""
    n_train: int
    n_validation: int
    n_test: int
    n_too_long: int
    """Number of records left out because they are longer than the context."""
    n_split: int = 0
    """Number of records that were divided at their turns."""
    n_repeats: int = 0
    """Number of records whose prompt repeats an earlier one exactly."""
    n_groups: int | None = None
    """Number of groups of near duplicates among the prompts. None: synthetic records."""
    n_test_near: int = 0
    """Number of test records with a near duplicate in the training set."""
    reading: LeftOut = field(default_factory=LeftOut)
    """What was left out while the files were read."""
    context_length: int = 0
    n_train_tokens: int = 0
    """Number of tokens of the training rows."""
    n_answer_tokens: int = 0
    """Number of them that are targets."""
    n_plain_rows: int = 0
    """Number of training rows of plain text."""
    added_tokens: tuple[str, ...] = ()
    """Chat tokens that the tokenizer of the model did not have."""
    prompt_differs: bool = False
    """Whether an answer begins otherwise in generation than in training."""
    method: str = "all"
    n_steps: int = 0
    batch_size: int = 0
    learning_rate: float = 0.0
    n_folds: int = 0

    @property
    def left_out(self) -> list[str]:
        """What of the records is not used, one sentence for each."""
        found = self.reading.sentences()
        if self.n_too_long:
            found.append(
                f"{self.n_too_long:,} of {self.n_read:,} records are longer than the context of "
                f"{self.context_length:,} tokens and are left out."
            )
        if self.n_split:
            found.append(f"{self.n_split:,} records were too long and were divided at their turns.")
        if self.prompt_differs:
            found.append(
                "The chat template begins an answer otherwise in generation than in a complete "
                "conversation, so the model answers after a beginning that it was not trained on."
            )
        return found

    @property
    def audit(self) -> str:
        """What the audit found among the prompts, in a sentence or two."""
        said = f"{self.n_read:,} records"
        if self.n_groups is None:
            return f"{said}, made from the documents of the run."
        return (
            f"{said}: {self.n_repeats:,} repeated prompts, {self.n_groups:,} groups of near "
            f"duplicates. {self.n_test_near:,} of {self.n_test:,} test prompts have a near "
            "duplicate in the training set."
        )


@dataclass(frozen=True, kw_only=True)
class InstructResult:
    """The folder of a fine-tuned assistant and its answers to the test prompts."""

    folder: Path
    """`groundup.load` opens it, `groundup chat` talks to it."""
    name: str
    """The name of the run that it was made from."""
    prepared: Prepared
    trained: Trained
    n_parameters: int
    n_trained_parameters: int
    max_new_tokens: int
    n_shots: int = 0
    """Number of examples in the prompt of the few-shot baseline."""
    loss_before_nats: float
    """Mean test loss per answer token before fine-tuning."""
    loss_after_nats: float | None = None
    """Mean test loss per answer token after fine-tuning. None: it was not measured."""
    bits_before: dict[str, float] | None = None
    """Bits per answer token of each kind of synthetic test record before fine-tuning."""
    bits_after: dict[str, float] | None = None
    """The same after fine-tuning."""
    evaluation: Evaluation | None = None
    """The answers to the test prompts. None: the test failed."""
    table: list[list[str]] = field(default_factory=list)
    """The scores of every system, or of every kind of synthetic question, with the heads first."""
    plain_text: str = ""
    """Which plain text the next two are measured on."""
    plain_before: float | None = None
    """Bits per byte of plain text before fine-tuning."""
    plain_after: float | None = None
    """Bits per byte of plain text after fine-tuning."""
    merge: MergeReport | None = None
    """How the merged model compares with the one with adapters. None: there were no adapters."""
    elapsed_s: float = 0.0
    warnings: list[str] = field(default_factory=list)
    """What failed after training. The model is saved nevertheless."""

    @property
    def is_synthetic(self) -> bool:
        """Whether the records were generated."""
        return self.prepared.n_groups is None

    @property
    def verdict(self) -> list[str]:
        """What the scores mean, one sentence for each."""
        if self.evaluation is None:
            return ["The assistant was not tested."]
        if not self.is_synthetic:
            return self.evaluation.verdict()
        after = {
            kind: n_right / n
            for kind, (n_right, n) in by_kind(self.evaluation, baselines.TUNED).items()
        }
        # A random guess answers half of the yes-or-no questions correctly.
        learned = [kind for kind, x in after.items() if x >= (0.75 if kind == YES_OR_NO else 0.5)]
        failed = [kind for kind, x in after.items() if x < 0.2]
        names = "; ".join(learned) or "none", "; ".join(failed) or "none"
        said = [f"Learned: {names[0]}. Not learned: {names[1]}."]
        if self.bits_before is not None and self.bits_after is not None:
            said.append("An answer token costs {1} bits instead of {0}.".format(*self.bits("all")))
        said.append(
            "A small model answers only the kinds of questions that it was trained on; it answers "
            "any other question with the same few sentences."
        )
        return said

    @property
    def forgetting(self) -> str:
        """How much worse plain text is predicted, in a sentence."""
        if self.plain_before is None or self.plain_after is None:
            return "Plain text: not measured."
        change = self.plain_after - self.plain_before
        return (
            f"Plain text ({self.plain_text}): {self.plain_before:.3f} bits/byte before, "
            f"{self.plain_after:.3f} after ({change:+.3f})."
        )

    @property
    def loss(self) -> str:
        """The loss on the answers of the test set, in a sentence."""
        after = "not measured" if self.loss_after_nats is None else f"{self.loss_after_nats:.3f}"
        return (
            f"Test loss on answers: {self.loss_before_nats:.3f} nats/token before, {after} after."
        )

    @property
    def no_few_shot(self) -> str:
        """Why there is no few-shot baseline, in a sentence; empty if there is one."""
        if self.evaluation is None or not self.n_shots or self.is_synthetic:
            return ""
        if baselines.few_shot(self.n_shots) in self.evaluation.answers:
            return ""
        return (
            f"There is no {self.n_shots}-shot baseline: the examples do not fit into the context "
            "beside every test prompt."
        )

    @property
    def cut_answers(self) -> str:
        """How many test answers did not end, in a sentence; empty if all did."""
        if self.evaluation is None:
            return ""
        tuned = self.evaluation.answers[baselines.TUNED]
        n_cut = sum(answer.is_ended is False for answer in tuned)
        if not n_cut:
            return ""
        return (
            f"{n_cut:,} of {len(tuned):,} test answers did not end within {self.max_new_tokens} "
            "tokens and were cut there."
        )

    def shares(self) -> list[tuple[str, Share, Share]]:
        """List each kind of synthetic question with its accuracy before and after."""
        assert self.evaluation is not None
        before = by_kind(self.evaluation, baselines.UNTUNED)
        after = by_kind(self.evaluation, baselines.TUNED)
        counts = {kind: (before[kind], after[kind]) for kind in after}
        counts["all"] = (_added(before.values()), _added(after.values()))
        return [(kind, wilson(*b), wilson(*a)) for kind, (b, a) in counts.items()]

    def bits(self, kind: str) -> tuple[str, str]:
        """Write the bits per answer token of a kind of synthetic question before and after."""
        found = (self.bits_before or {}).get(kind), (self.bits_after or {}).get(kind)
        before, after = ("-" if bits is None else f"{bits:.2f}" for bits in found)
        return before, after

    def prompts_to_try(self) -> list[str]:
        """Choose prompts for `groundup chat`: short ones of different kinds."""
        first = ["Who are you?"] if self.is_synthetic else []
        if self.evaluation is None:
            return first
        single = [item for item in self.evaluation.items if len(item.messages) == 1]
        # `chat` reads one line at a time.
        items = sorted(single, key=lambda i: len(i.prompt) > 60 or "\n" in i.prompt)
        kinds = {item.kind: item.prompt for item in reversed(items)}
        prompts = [*first, *reversed(kinds.values()), *(item.prompt for item in items)]
        lines = [" ".join(prompt.split()) for prompt in prompts]
        return list(dict.fromkeys(lines))[:_N_PROMPTS]

    def summary(self) -> dict[str, Any]:
        """The numbers of the test, as assistant.json holds them."""
        found: dict[str, Any] = {
            "name": self.name,
            "is_synthetic": self.is_synthetic,
            "n_records": self.prepared.n_train,
            "n_held_out": self.prepared.n_test,
            "loss_before_nats": self.loss_before_nats,
            "loss_after_nats": self.loss_after_nats,
            "prompts_to_try": self.prompts_to_try(),
        }
        if self.evaluation is not None:
            everything = [True] * len(self.evaluation.items)
            for name, among in (("all", everything), ("no_near_duplicate", self.evaluation.is_new)):
                found[name] = {
                    row[0]: dict(zip(COLUMNS[1:], row[1:], strict=True))
                    for row in table_of(self.evaluation, among)
                }
            found["n_right_after_by_kind"] = {
                kind or "all": n_right
                for kind, (n_right, _) in by_kind(self.evaluation, baselines.TUNED).items()
            }
        return found


def _added(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    pairs = list(counts)
    return sum(n_right for n_right, _ in pairs), sum(n for _, n in pairs)


def answers_page(evaluation: Evaluation) -> str:
    """Write all answers to the test prompts, in Markdown."""
    parts = []
    for index, item in enumerate(evaluation.items):
        answers = "".join(
            f"- {name}: {answers[index].text!r}\n" for name, answers in evaluation.answers.items()
        )
        parts.append(f"**{item.prompt}**\n\n- expected: {item.reference!r}\n{answers}")
    return "\n".join(parts)


def readme(result: InstructResult) -> str:
    """Write the README.md of an assistant, in Markdown."""
    prepared = result.prepared
    lines = [
        "# Assistant",
        f"Training set: {prepared.n_train:,} records ({prepared.n_answer_tokens:,} of "
        f"{prepared.n_train_tokens:,} tokens are trained). Test set: {prepared.n_test:,} records. "
        + " ".join([prepared.audit, *prepared.left_out]),
        f"Method: {prepared.method}, {result.n_trained_parameters:,} of {result.n_parameters:,} "
        f"parameters trained in {result.trained.n_steps:,} steps.",
        f"{result.loss} {result.forgetting}",
    ]
    if result.evaluation is not None:
        lines += _tables(result)
    lines += [
        " ".join([*result.verdict, result.cut_answers]).strip(),
        "All answers to the test prompts are in `samples/answers.md`, with their scores in "
        "`evaluation/answers.jsonl`. Chat with the assistant:",
        f"    groundup chat {quoted(result.folder)}",
    ]
    return "\n\n".join(lines) + "\n"


def main_table(result: InstructResult) -> list[list[str]]:
    """Make the table of all test records, with the heads of its columns first."""
    evaluation = result.evaluation
    assert evaluation is not None
    if result.is_synthetic:
        rows = [
            [kind, str(a.n), str(b), str(a), *result.bits(kind)] for kind, b, a in result.shares()
        ]
        bits = ["bits/token before", "bits/token after"]
        return [["kind", "prompts", "before", "after", *bits], *rows]
    return [[*COLUMNS], *table_of(evaluation, [True] * len(evaluation.items))]


def _tables(result: InstructResult) -> list[str]:
    evaluation = result.evaluation
    assert evaluation is not None
    n, n_new = len(evaluation.items), sum(evaluation.is_new)
    found = [f"All {n} test records:", markdown(result.table[0], result.table[1:])]
    if result.is_synthetic:
        return found
    if 0 < n_new < n:
        found.append(f"The {n_new} test records without a near duplicate in the training set:")
        found.append(markdown(COLUMNS, table_of(evaluation, evaluation.is_new)))
    kinds = {
        kind: [f"{n_right} of {n}" for n_right, n in pair]
        for kind, *pair in (
            (kind, by_kind(evaluation, baselines.UNTUNED)[kind], found_after)
            for kind, found_after in by_kind(evaluation, baselines.TUNED).items()
        )
    }
    if kinds:
        rows = [[kind, *pair] for kind, pair in sorted(kinds.items())]
        found += ["Key match by kind of prompt:", markdown(["kind", "untuned", "fine-tuned"], rows)]
    return found


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
