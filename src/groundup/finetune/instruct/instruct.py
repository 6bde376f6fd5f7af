"""Fine-tune the model of a run as an assistant.

A record becomes `<|user|> prompt <|end|> <|assistant|> answer <|end|>`, in the chat template of
`groundup chat`. Only the answer and its end are targets of the loss. The test prompts are answered
greedily before and after fine-tuning, and deterministic graders decide which answers are correct.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from groundup.base.calling import takes_settings
from groundup.base.errors import UserError, quoted
from groundup.base.files import write_json, write_text
from groundup.base.folder_kinds import find_run
from groundup.base.run import RunFolder
from groundup.evaluation.intervals import Share, wilson
from groundup.evaluation.load import LanguageModel
from groundup.finetune.batches import Row, RowLoader, language_row
from groundup.finetune.foundation import documents_of, open_foundation
from groundup.finetune.instruct.answers import answer_all
from groundup.finetune.instruct.config import InstructConfig
from groundup.finetune.instruct.records import Record, read_records, split_records
from groundup.finetune.instruct.synthetic import YES_OR_NO, grade, make_synthetic_records
from groundup.finetune.training import OnStep, log_steps, mean_loss, tune
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.special import END, END_OF_TEXT
from groundup.tokenizer.template import Message, render, render_prompt
from groundup.train.loop import Step
from groundup.train.optimizer import Optimizer, OptimizerConfig
from groundup.weights.checkpoint_format import save_model


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
    """RUN/assistant; `groundup.load` opens it, `groundup chat` talks to it."""
    n_records: int
    """Number of training records."""
    n_too_long: int
    """Number of records left out because the prompt alone fills the context."""
    answers: list[Answer]
    before: Share
    after: Share
    loss_before_nats: float
    """Mean test loss per answer token before fine-tuning."""
    loss_after_nats: float
    """Mean test loss per answer token after fine-tuning."""
    steps: list[Step]
    elapsed_s: float

    def by_kind(self) -> dict[str, tuple[Share, Share]]:
        """Return the accuracy before and after for each kind of record ("" if unknown)."""
        kinds = dict.fromkeys(answer.record.kind for answer in self.answers)
        return {kind: _shares([a for a in self.answers if a.record.kind == kind]) for kind in kinds}

    @property
    def is_synthetic(self) -> bool:
        """Whether the records were generated, so that each kind has its grader."""
        return all(answer.record.kind for answer in self.answers)

    @property
    def verdict(self) -> str:
        """What the accuracy means, in one or two sentences."""
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


def conversation(record: Record, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Encode a record in the chat template; the mask is 1 on the answer and its end."""
    messages = [Message("user", record.prompt), Message("assistant", record.output)]
    return render(messages, tokenizer)


@takes_settings(InstructConfig, "run")
def instruct(config: InstructConfig, on_step: OnStep | None = None) -> InstructResult:
    """Fine-tune an assistant, test it before and after, and write it to RUN/assistant.

    No checkpoints are written: a run that is interrupted starts again from the beginning.

    Raises:
        UserError: A record is malformed (see `read_records`), the text is too short for synthetic
            records, the run contains no model, or its tokenizer has no chat tokens.
    """
    started_at = time.perf_counter()
    config = replace(config, run=find_run(config.run))
    assert config.run is not None
    foundation = open_foundation(config.run, device=config.device, threads=config.threads)
    model, tokenizer = foundation.model, foundation.tokenizer
    train, test = _records(config)
    context_length = model.config.context_length
    rows = _rows(train, tokenizer, context_length)
    test_rows = _rows(test, tokenizer, context_length)
    if not rows or not test_rows:
        raise UserError(
            f"No record fits the context length of {context_length} tokens. Shorter records or a "
            "model with a longer context are expected.",
            where=config.records,
        )
    prompts = [render_prompt([Message("user", r.prompt)], tokenizer) for r in test]
    stops = {tokenizer.special_tokens[END]} | {
        tokenizer.special_tokens[name]
        for name in (END_OF_TEXT,)
        if name in tokenizer.special_tokens
    }

    def answers() -> list[str]:
        found = answer_all(model, prompts, config.max_new_tokens, stop_ids=stops)
        return [tokenizer.decode(ids) for ids in found]

    before, loss_before = answers(), mean_loss(model, test_rows)
    optimizer = Optimizer(
        model,
        OptimizerConfig(
            learning_rate=config.learning_rate,
            embedding_learning_rate=config.embedding_learning_rate,
            norm_learning_rate=config.embedding_learning_rate,
            weight_decay=0.0,
        ),
    )
    batches = iter(RowLoader(rows, config.batch_size, seed=config.seed))
    steps = tune(model, batches, model.loss, optimizer, n_steps=config.steps, on_step=on_step)
    graded = [
        Answer(r, a, b, grade(r, a), grade(r, b))
        for r, a, b in zip(test, before, answers(), strict=True)
    ]
    share_before, share_after = _shares(graded)
    folder = RunFolder.create(RunFolder.of(config.run).path / "assistant").path
    result = InstructResult(
        folder=folder,
        n_records=len(rows),
        n_too_long=len(train) - len(rows),
        answers=graded,
        before=share_before,
        after=share_after,
        loss_before_nats=loss_before,
        loss_after_nats=mean_loss(model, test_rows),
        steps=steps,
        elapsed_s=time.perf_counter() - started_at,
    )
    _store(config, result, foundation)
    return result


def _records(config: InstructConfig) -> tuple[list[Record], list[Record]]:
    if config.records is not None:
        return split_records(
            read_records(config.records),
            test_frac=config.test_frac,
            max_test=config.max_test,
            seed=config.seed,
        )
    return make_synthetic_records(
        [d.text for d in documents_of(config.run, config.data, "train")],
        [d.text for d in documents_of(config.run, config.data, "validation")],
        n_train=config.steps * config.batch_size,
        n_test_per_kind=config.test_per_kind,
        seed=config.seed,
    )


def _rows(records: Sequence[Record], tokenizer: Tokenizer, context_length: int) -> list[Row]:
    """Encode the records; those whose prompt alone fills the context are left out."""
    rows = (language_row(*conversation(r, tokenizer), context_length) for r in records)
    return [row for row in rows if row is not None]


def _shares(answers: Sequence[Answer]) -> tuple[Share, Share]:
    return (
        wilson(sum(a.right_before for a in answers), len(answers)),
        wilson(sum(a.right_after for a in answers), len(answers)),
    )


def _store(config: InstructConfig, result: InstructResult, assistant: LanguageModel) -> None:
    run = RunFolder(result.folder)
    run.write_config(config)
    log_steps(run, result.steps)
    lines = [
        f"**{a.record.prompt}**\n\n- expected: {a.record.output}\n- before: {a.before!r}\n"
        f"- after: {a.after!r} ({'correct' if a.right_after else 'wrong'})\n"
        for a in result.answers
    ]
    write_text(run.path / "samples" / "answers.md", "\n".join(lines))
    save_model(assistant.model, run.path)
    assistant.tokenizer.save(run.path / "tokenizer")
    run.write_readme(readme(result))
    run.write_manifest({"foundation": str(config.run), "n_records": result.n_records})
    # Written last: a folder with assistant.json is complete.
    write_json(
        run.path / "assistant.json",
        {
            "n_records": result.n_records,
            "n_right_before": result.before.n_right,
            "n_right_after": result.after.n_right,
            "n_held_out": result.after.n,
            "loss_before_nats": result.loss_before_nats,
            "loss_after_nats": result.loss_after_nats,
            "n_right_after_by_kind": {
                kind or "all": after.n_right for kind, (_, after) in result.by_kind().items()
            },
        },
    )


def readme(result: InstructResult) -> str:
    """Write the README.md of an assistant, in Markdown."""
    return f"""# Assistant

Training set: {result.n_records} records. Test set: {len(result.answers)} records.

| fine-tuning | test accuracy | test loss in nats/token |
|---|---|---|
| before | {result.before} | {result.loss_before_nats:.3f} |
| after | {result.after} | {result.loss_after_nats:.3f} |

{result.verdict}

All answers to the test prompts are in `samples/answers.md`. Chat with the assistant:

    groundup chat {quoted(result.folder)}

Fine-tuning writes no checkpoints: when `groundup instruct` is interrupted, it starts again from the
beginning.
"""
