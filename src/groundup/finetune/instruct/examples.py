"""From records to training and test rows; a record that does not fit the context is left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from groundup.base.errors import UserError
from groundup.finetune.batches import Row, language_row
from groundup.finetune.foundation import documents_of
from groundup.finetune.instruct.config import InstructConfig
from groundup.finetune.instruct.records import Record, read_records, split_records
from groundup.finetune.instruct.synthetic import make_synthetic_records
from groundup.text.left_out import LeftOut
from groundup.tokenizer.chat_template import ChatTemplate
from groundup.tokenizer.conversation import render_ids
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.template import Message


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Rows to train on, records to test on, and how many records were left out."""

    rows: list[Row]
    test: list[Record]
    test_rows: list[Row]
    prompts: list[list[int]]
    """The ids after which the answer to each test record begins."""
    n_read: int
    n_too_long: int
    """Number of records longer than the context."""
    n_repeated: int
    """Number of records with the prompt of a test record."""
    reading: LeftOut
    """What was left out while the files were read."""


def conversation(
    record: Record, tokenizer: Tokenizer, template: ChatTemplate | None = None
) -> tuple[list[int], list[int]]:
    """Encode a record in the chat template; the mask is 1 on the answer and its end."""
    messages = [Message("user", record.prompt), Message("assistant", record.output)]
    return render_ids(messages, tokenizer, template)


def make_examples(
    config: InstructConfig,
    tokenizer: Tokenizer,
    context_length: int,
    template: ChatTemplate | None = None,
) -> Examples:
    """Read or generate the records, leave out those that are too long, and split them.

    Raises:
        UserError: A record is malformed (see `read_records`), the text is too short for synthetic
            records, or too few records fit the context.
    """
    reading = LeftOut()
    if config.records is None:
        records, test = make_synthetic_records(
            _texts(config, "train"),
            _texts(config, "validation"),
            n_train=config.steps * config.batch_size,
            n_test_per_kind=config.test_per_kind,
            seed=config.seed,
        )
    else:
        records, test = read_records(config.records, config, left_out=reading), []
    n_read, n_repeated = len(records) + len(test), 0
    rows, test_rows = (_rows(some, tokenizer, context_length, template) for some in (records, test))
    fitting = [r for r, row in zip(records, rows, strict=True) if row is not None]
    test = [r for r, row in zip(test, test_rows, strict=True) if row is not None]
    n_too_long = n_read - len(fitting) - len(test)
    is_enough = bool(fitting and test)
    if config.records is not None:
        is_enough = len({record.prompt for record in fitting}) >= 2
    if n_too_long and not is_enough:
        lengths = [len(conversation(r, tokenizer, template)[0]) for r in records]
        raise _too_few(config.records, lengths, context_length, n_too_long, n_read)
    train = fitting
    if config.records is not None:
        train, test = split_records(
            fitting, test_frac=config.test_frac, max_test=config.max_test, seed=config.seed
        )
        n_repeated = len(fitting) - len(train) - len(test)
    rows, test_rows = (_rows(some, tokenizer, context_length, template) for some in (train, test))
    return Examples(
        rows=[row for row in rows if row is not None],
        test=test,
        test_rows=[row for row in test_rows if row is not None],
        prompts=[
            render_ids(
                [Message("user", record.prompt)], tokenizer, template, add_generation_prompt=True
            )[0]
            for record in test
        ],
        n_read=n_read,
        n_too_long=n_too_long,
        n_repeated=n_repeated,
        reading=reading,
    )


def _texts(config: InstructConfig, split: str) -> list[str]:
    documents = documents_of(config.run, config.data, split, instead="records")
    return [document.text for document in documents]


def _rows(
    records: Sequence[Record],
    tokenizer: Tokenizer,
    context_length: int,
    template: ChatTemplate | None,
) -> list[Row | None]:
    return [language_row(*conversation(r, tokenizer, template), context_length) for r in records]


def _too_few(
    where: str | Path | None,
    lengths: Sequence[int],
    context_length: int,
    n_too_long: int,
    n_read: int,
) -> UserError:
    return UserError(
        f"{n_too_long:,} of {n_read:,} records are longer than the context length of "
        f"{context_length} tokens, and too few are left for a training and a test set. With the "
        f"chat template the records take {min(lengths):,} to {max(lengths):,} tokens. Shorter "
        "records, or a model with a longer context, are expected.",
        where=where,
    )
