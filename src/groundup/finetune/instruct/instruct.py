"""Tune the model of a run into an assistant: it learns to answer, and only the answer is learnt.

A record becomes `<|user|> prompt <|end|> <|assistant|> answer <|end|>`, by the same template the
chat uses. Only the answer and its end are targets of the loss; the prompt is read but not learnt.
Held-out prompts are answered greedily before and after, and a deterministic grader says which
answers are right.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from groundup.base.errors import UserError, quoted
from groundup.base.files import write_json, write_text
from groundup.base.run import RunFolder
from groundup.evaluation.intervals import Share, wilson
from groundup.evaluation.load import LanguageModel
from groundup.finetune.batches import Row, RowLoader, language_row, mean_loss
from groundup.finetune.foundation import OnStep, documents_of, open_foundation, tune
from groundup.finetune.instruct.answers import answer_all
from groundup.finetune.instruct.lessons import grade, make_lessons
from groundup.finetune.instruct.records import Record, read_records, split_records
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.special import END, END_OF_TEXT
from groundup.tokenizer.template import Message, render, render_prompt
from groundup.train.loop import Step
from groundup.train.optimizer import Optimizer, OptimizerConfig
from groundup.weights.checkpoint_format import save_model

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class InstructConfig:
    """Tune the model of a run on instructions."""

    run: Path = Path("runs/pretrain")
    """the run whose model is tuned; the assistant goes to RUN/assistant"""
    records: Path | None = None
    """instruction records (.json, .jsonl); without it: lessons about the words of the text"""
    data: Path | None = None
    """data folder to write lessons about (without it: the one the run was trained on)"""
    test_per_kind: int = 24
    """held-out lessons of each kind"""
    test_frac: float = 0.1
    """share of your own records that is held out"""
    max_test: int = 200
    """at most so many of your own records are held out"""
    steps: int = 400
    """steps of the training loop"""
    batch_size: int = 32
    """conversations per step"""
    learning_rate: float = 0.02
    """Muon's highest rate, for the matrices"""
    table_learning_rate: float = 0.004
    """AdamW's highest rate, for the token table and the gains"""
    max_new_tokens: int = 24
    """the longest answer when grading, in tokens"""
    seed: int = 0
    """fixes the lessons, the split and the order of the batches"""
    device: str = "auto"
    """auto, cpu or cuda"""
    threads: int | None = None
    """CPU threads (without it: all cores)"""


@dataclass(frozen=True)
class Answer:
    """One held-out prompt with the answers before and after tuning, and the grader's verdicts."""

    record: Record
    before: str
    after: str
    right_before: bool
    right_after: bool


@dataclass(frozen=True, kw_only=True)
class InstructResult:
    """What came out: where the assistant is, and how it answers what it has not seen."""

    folder: Path
    """RUN/assistant; `groundup.load` opens it, `groundup chat` talks to it."""
    n_records: int
    """Records learnt from."""
    n_too_long: int
    """Records left out because nothing of the answer fits the context."""
    answers: list[Answer]
    before: Share
    after: Share
    loss_before_nats: float
    """Mean loss per answer token on the held-out records, before tuning."""
    loss_after_nats: float
    own_lessons: bool
    """The records were written by `make_lessons` and each kind has its grader."""
    steps: list[Step]
    elapsed_s: float

    def by_kind(self) -> dict[str, tuple[Share, Share]]:
        """Share of right answers before and after, for each kind of lesson."""
        kinds = dict.fromkeys(answer.record.kind for answer in self.answers)
        return {kind: _shares([a for a in self.answers if a.record.kind == kind]) for kind in kinds}


def conversation(record: Record, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Ids of a record in the chat template, and the mask that is 1 on the answer and its end."""
    messages = [Message("user", record.prompt), Message("assistant", record.output)]
    return render(messages, tokenizer)


def instruct(config: InstructConfig, on_step: OnStep | None = None) -> InstructResult:
    """Tune, grade before and after, and store an assistant.

    Raises:
        UserError: a record is malformed (see `read_records`), the text is too short to write
        lessons about,
            the run holds no model, or its tokenizer has no chat tokens.
    """
    began_at = time.perf_counter()
    _check(config)
    foundation = open_foundation(config.run, device=config.device, threads=config.threads)
    model, tokenizer = foundation.model, foundation.tokenizer
    train, test = _records(config)
    context_length = model.config.context_length
    rows = _rows(train, tokenizer, context_length)
    test_rows = _rows(test, tokenizer, context_length)
    if not rows or not test_rows:
        raise UserError(
            f"no answer fits the model's context of {context_length} tokens",
            need="shorter records, or a model with a longer context",
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
            embedding_learning_rate=config.table_learning_rate,
            norm_learning_rate=config.table_learning_rate,
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
    folder = RunFolder.create(config.run / "assistant").path
    result = InstructResult(
        folder=folder,
        n_records=len(rows),
        n_too_long=len(train) - len(rows),
        answers=graded,
        before=share_before,
        after=share_after,
        loss_before_nats=loss_before,
        loss_after_nats=mean_loss(model, test_rows),
        own_lessons=config.records is None,
        steps=steps,
        elapsed_s=time.perf_counter() - began_at,
    )
    _store(config, result, foundation)
    return result


def _check(config: InstructConfig) -> None:
    sizes = ("steps", "batch_size", "test_per_kind", "max_test", "max_new_tokens")
    for name in sizes:
        if getattr(config, name) < 1:
            raise UserError(f"{name} is {getattr(config, name)}", need="1 or more")
    if not 0.0 < config.test_frac < 1.0:
        raise UserError(f"test_frac is {config.test_frac}", need="a share between 0 and 1")


def _records(config: InstructConfig) -> tuple[list[Record], list[Record]]:
    if config.records is not None:
        return split_records(
            read_records(config.records),
            test_frac=config.test_frac,
            max_test=config.max_test,
            seed=config.seed,
        )
    return make_lessons(
        [d.text for d in documents_of(config.run, config.data, "train")],
        [d.text for d in documents_of(config.run, config.data, "validation")],
        n_train=config.steps * config.batch_size,
        n_test_per_kind=config.test_per_kind,
        seed=config.seed,
    )


def _rows(records: Sequence[Record], tokenizer: Tokenizer, context_length: int) -> list[Row]:
    """Rows for the loss; records of whose answer nothing fits the context are left out."""
    rows = (language_row(*conversation(r, tokenizer), context_length) for r in records)
    return [row for row in rows if row is not None]


def _shares(answers: Sequence[Answer]) -> tuple[Share, Share]:
    return (
        wilson(sum(a.right_before for a in answers), len(answers)),
        wilson(sum(a.right_after for a in answers), len(answers)),
    )


def _store(config: InstructConfig, result: InstructResult, assistant: LanguageModel) -> None:
    run = RunFolder.open(result.folder)
    run.write_config(config)
    for step in result.steps:
        run.log_metrics(
            step=step.step,
            loss_nats=step.loss_nats,
            learning_rate=step.learning_rate,
            elapsed_s=step.elapsed_s,
        )
    lines = [
        f"**{a.record.prompt}**\n\n- expected: {a.record.output}\n- before: {a.before!r}\n"
        f"- after: {a.after!r} ({'right' if a.right_after else 'wrong'})\n"
        for a in result.answers
    ]
    write_text(run.path / "samples" / "answers.md", "\n".join(lines))
    save_model(assistant.model, run.path)
    assistant.tokenizer.save(run.path / "tokenizer")
    run.write_readme(
        f"# Assistant\n\nTuned on {result.n_records} records; {len(result.answers)} held out.\n\n"
        f"| held-out prompts | right |\n|---|---|\n| before | {result.before} |\n"
        f"| after | {result.after} |\n\nTalk to it: `groundup chat {quoted(result.folder)}`\n"
    )
    run.write_manifest({"foundation": str(config.run), "n_records": result.n_records})
    # Last, so that a folder with assistant.json is a finished one.
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
