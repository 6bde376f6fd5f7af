"""What instruction tuning returns and writes: graded answers, counts, and the README."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from groundup.base.errors import quoted
from groundup.evaluation.intervals import Share, wilson
from groundup.finetune.instruct.records import Record
from groundup.finetune.instruct.synthetic import YES_OR_NO
from groundup.text.left_out import LeftOut
from groundup.train.loop import Step


@dataclass(frozen=True)
class Answer:
    """A test record with its graded answers before and after fine-tuning."""

    record: Record
    before: str
    after: str
    right_before: bool
    right_after: bool


@dataclass(frozen=True, kw_only=True)
class InstructResult:
    """The folder of a fine-tuned assistant and its answers to the test prompts."""

    folder: Path
    """`groundup.load` opens it, `groundup chat` talks to it."""
    n_records: int
    """Number of training records."""
    n_read: int = 0
    """Number of records before any was left out."""
    n_too_long: int
    """Number of records left out because they are longer than the context."""
    n_repeated: int = 0
    """Number of records left out because a test record has the same prompt."""
    reading: LeftOut = field(default_factory=LeftOut)
    """What was left out while the files were read."""
    context_length: int = 0
    added_tokens: tuple[str, ...] = ()
    """Chat tokens that the tokenizer of the model did not have."""
    answers: list[Answer]
    n_cut_answers: int = 0
    """Number of test answers that did not end within `max_new_tokens`."""
    max_new_tokens: int = 0
    before: Share | None
    """Test accuracy before fine-tuning. None: the test failed."""
    after: Share | None
    """Test accuracy after fine-tuning. None: the test failed."""
    loss_before_nats: float
    """Mean test loss per answer token before fine-tuning."""
    loss_after_nats: float | None
    """Mean test loss per answer token after fine-tuning. None: it was not measured."""
    steps: list[Step]
    elapsed_s: float
    warnings: list[str] = field(default_factory=list)
    """What failed after training. The model is saved nevertheless."""

    def by_kind(self) -> dict[str, tuple[Share, Share]]:
        """Return the accuracy before and after for each kind of record ("" if unknown)."""
        kinds = dict.fromkeys(answer.record.kind for answer in self.answers)
        return {kind: shares([a for a in self.answers if a.record.kind == kind]) for kind in kinds}

    @property
    def is_synthetic(self) -> bool:
        """Whether the records were generated, so that each kind has its grader."""
        return all(answer.record.kind for answer in self.answers)

    @property
    def verdict(self) -> str:
        """What the accuracy means, in one or two sentences."""
        if self.after is None:
            return "The assistant was not tested."
        if not self.is_synthetic:
            return (
                f"{self.after.n_right} of {self.after.n} answers match the expected text exactly. "
                "An exact match is a strict measure of free text: read some answers too."
            )
        after = {kind: share.value for kind, (_, share) in self.by_kind().items()}
        # A random guess answers half of the yes-or-no questions correctly.
        learned = [kind for kind, x in after.items() if x >= (0.75 if kind == YES_OR_NO else 0.5)]
        failed = [kind for kind, x in after.items() if x < 0.2]
        return (
            f"Learned: {'; '.join(learned) or 'none'}. Not learned: {'; '.join(failed) or 'none'}. "
            "A small model answers only the kinds of questions that it was trained on; it answers "
            "any other question with the same few sentences."
        )

    @property
    def left_out(self) -> list[str]:
        """What of the records was not used, and which answers were cut, one sentence for each."""
        counts = {
            f"{self.n_too_long:,} of {self.n_read:,} records are longer than the context of "
            f"{self.context_length} tokens and are left out.": self.n_too_long,
            f"{self.n_repeated:,} of {self.n_read:,} records have the same prompt as a test record "
            "and are left out.": self.n_repeated,
            f"{self.n_cut_answers:,} of {len(self.answers):,} test answers did not end within "
            f"{self.max_new_tokens} tokens and were cut there.": self.n_cut_answers,
        }
        return [*self.reading.sentences(), *(text for text, count in counts.items() if count)]

    def summary(self) -> dict[str, Any]:
        """The numbers of the test, as assistant.json holds them."""
        tested = {} if self.before is None or self.after is None else {
            "n_right_before": self.before.n_right,
            "n_right_after": self.after.n_right,
            "n_right_after_by_kind": {
                kind or "all": after.n_right for kind, (_, after) in self.by_kind().items()
            },
        }  # fmt: skip
        return {
            "n_records": self.n_records,
            "n_held_out": len(self.answers),
            "n_cut_answers": self.n_cut_answers,
            "loss_before_nats": self.loss_before_nats,
            "loss_after_nats": self.loss_after_nats,
            **tested,
        }


def shares(answers: Sequence[Answer]) -> tuple[Share, Share]:
    """Compute the accuracy before and after fine-tuning."""
    return (
        wilson(sum(a.right_before for a in answers), len(answers)),
        wilson(sum(a.right_after for a in answers), len(answers)),
    )


def answers_page(answers: Sequence[Answer]) -> str:
    """Write all answers to the test prompts, in Markdown."""
    return "\n".join(
        f"**{a.record.prompt}**\n\n- expected: {a.record.output}\n- before: {a.before!r}\n"
        f"- after: {a.after!r} ({'correct' if a.right_after else 'wrong'})\n"
        for a in answers
    )


def readme(result: InstructResult) -> str:
    """Write the README.md of an assistant, in Markdown."""
    loss_after = "not measured"
    if result.loss_after_nats is not None:
        loss_after = f"{result.loss_after_nats:.3f}"
    left_out = " ".join(result.left_out)
    return f"""# Assistant

Training set: {result.n_records} records. Test set: {len(result.answers)} records.
{left_out}

| fine-tuning | test accuracy | test loss in nats/token |
|---|---|---|
| before | {result.before or "not tested"} | {result.loss_before_nats:.3f} |
| after | {result.after or "not tested"} | {loss_after} |

{result.verdict}

All answers to the test prompts are in `samples/answers.md`. Chat with the assistant:

    groundup chat {quoted(result.folder)}

Fine-tuning writes no checkpoints: when `groundup instruct` is interrupted, it starts again from the
beginning.
"""
