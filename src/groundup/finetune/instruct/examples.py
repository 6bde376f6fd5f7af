"""The examples of an assistant: records as rows, divided into training, validation and test set."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from groundup.base.errors import UsageError, UserError
from groundup.finetune.batches import Row
from groundup.finetune.foundation import documents_of
from groundup.finetune.instruct.config import InstructConfig
from groundup.finetune.instruct.graders import Grader
from groundup.finetune.instruct.keys import key_of
from groundup.finetune.instruct.rows import Rows, make_rows
from groundup.finetune.instruct.scores import Item
from groundup.finetune.instruct.synthetic import (
    GRADERS,
    Identity,
    Record,
    make_synthetic_records,
)
from groundup.records.conversations import read_conversations
from groundup.records.rows import Conversation
from groundup.records.splits import folds, require_sets, split
from groundup.text.left_out import LeftOut
from groundup.text.near_duplicates import PROMPT_RULE, Groups, group_near_duplicates, nearest
from groundup.tokenizer.chat_template import ChatTemplate
from groundup.tokenizer.conversation import render_ids
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.template import Message

_LEAST_FOR_VALIDATION = 40
"""Fewer records have no validation set."""
_VALIDATION_FRAC = 0.05


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Rows to train on, rows to choose the best weights by, and records to test on."""

    training: list[Conversation]
    rows: list[Row]
    validation_rows: list[Row]
    items: list[Item]
    test_rows: list[Row]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """All records that fit the context, and how they are divided."""

    rows: Rows
    sets: tuple[list[int], list[int], list[int]]
    """Row numbers of the training, validation and test set."""
    n_read: int
    reading: LeftOut = field(default_factory=LeftOut)
    """What was left out while the files were read."""
    groups: Groups | None = None
    """Near duplicates among the prompts. None: synthetic records."""

    def examples(self) -> Examples:
        """Return the examples of the training, validation and test set."""
        return self._examples(*self.sets)

    def folds(self, n_folds: int, seed: int) -> list[Examples]:
        """Return the examples of each fold: tested on it, trained on all others."""
        assert self.groups is not None
        try:
            parts = folds(None, self._row_groups(), n_folds, seed)
        except UserError as error:
            raise UsageError(error.message, settings={"folds": None}) from error
        everything = set(range(len(self.rows.rows)))
        return [self._examples(sorted(everything - set(part)), [], part) for part in parts]

    def everything(self) -> Examples:
        """Return all examples but those of the validation set for training, and no test."""
        train, validation, test = self.sets
        return self._examples(sorted([*train, *test]), validation, [])

    def _row_groups(self) -> list[int]:
        assert self.groups is not None
        return [self.groups.group[origin] for origin in self.rows.origins]

    def _examples(
        self, train: Sequence[int], validation: Sequence[int], test: Sequence[int]
    ) -> Examples:
        conversations, rows = self.rows.conversations, self.rows.rows
        training = [conversations[i] for i in train]
        tested = [conversations[i] for i in test]
        make = _synthetic_items if self.groups is None else partial(_items, training=training)
        return Examples(
            training=training,
            rows=[rows[i] for i in train],
            validation_rows=[rows[i] for i in validation],
            items=make(tested),
            test_rows=[rows[i] for i in test],
        )


def read_dataset(
    config: InstructConfig,
    tokenizer: Tokenizer,
    context_length: int,
    template: ChatTemplate | None,
    identity: Identity,
) -> Dataset:
    """Read or generate the records, leave out those that are too long, and divide them.

    Raises:
        UserError: A record is malformed, the text is too short for synthetic records, or too few
            records fit the context.
    """
    reading = LeftOut()
    render = partial(
        make_rows,
        tokenizer=tokenizer,
        template=template,
        context_length=context_length,
        overlong=config.overlong,
    )
    if config.records is None:
        assert config.steps is not None
        assert config.batch_size is not None
        train, test = (
            [
                Conversation(_fitting(r, tokenizer, template, context_length), kind=r.kind)
                for r in records
            ]
            for records in make_synthetic_records(
                _texts(config, "train"),
                _texts(config, "validation"),
                n_train=config.steps * config.batch_size,
                n_test_per_kind=config.test_per_kind,
                seed=config.seed,
                identity=identity,
            )
        )
        rows = render([*train, *test])
        n_train = sum(origin < len(train) for origin in rows.origins)
        test_rows = [*range(n_train, len(rows.rows))]
        dataset = Dataset(
            rows=rows, sets=([*range(n_train)], [], test_rows), n_read=len(train) + len(test)
        )
        _require_enough(dataset, config, context_length, tokenizer, template)
        return dataset
    conversations = read_conversations(
        config.records,
        config,
        layout=config.layout,
        split_column=config.split_column,
        skip_invalid=config.skip_invalid,
        left_out=reading,
    )
    rows = render(conversations)
    groups = group_near_duplicates([c.prompt for c in conversations], PROMPT_RULE)
    dataset = Dataset(
        rows=rows, sets=([], [], []), n_read=len(conversations), reading=reading, groups=groups
    )
    _require_enough(dataset, config, context_length, tokenizer, template)
    groups_of_rows = [groups.group[origin] for origin in rows.origins]
    sets = _divided(rows, groups_of_rows, len(conversations), config)
    return replace(dataset, sets=sets)


def _fitting(
    record: Record, tokenizer: Tokenizer, template: ChatTemplate | None, context_length: int
) -> tuple[Message, ...]:
    """Return the messages of a synthetic record, without the earlier ones if they do not fit."""
    if record.earlier:
        ids, _ = render_ids(record.messages, tokenizer, template)
        if len(ids) > context_length + 1:
            return record.messages[len(record.earlier) :]
    return record.messages


def _divided(
    rows: Rows, groups: Sequence[int], n_read: int, config: InstructConfig
) -> tuple[list[int], list[int], list[int]]:
    n = len(rows.rows)
    if config.split_column is not None:
        parts = [conversation.part for conversation in rows.conversations]
        return _given(parts, config)
    if config.split == "in-order":
        # The book's fractions, of all records of the file.
        ends = int(0.85 * n_read), int(0.85 * n_read) + int(0.1 * n_read)
        place = np.searchsorted(ends, rows.origins, side="right")
        train, test, validation = (np.flatnonzero(place == k).tolist() for k in range(3))
        if not train or not test:
            raise UserError(
                f"The {n} records that fit, of {n_read}, leave the training set or the test set "
                "empty when they are divided in order. More records, or a random split, are "
                "expected.",
                where=config.records,
                settings={"split": "random"},
            )
        return train, validation, _at_most(config.max_test, test)
    try:
        validation_frac = _VALIDATION_FRAC if n >= _LEAST_FOR_VALIDATION else 0.0
        found = split(
            None,
            groups,
            test_frac=min(config.test_frac, config.max_test / n),
            validation_frac=validation_frac,
            seed=config.seed,
            how=config.split,
        )
        require_sets(found, validation=validation_frac > 0)
    except UserError as error:
        raise _with_random_split(error, config) from error
    return found.train, found.validation, found.test


def _with_random_split(error: UserError, config: InstructConfig) -> UserError:
    """Suggest a random split where the groups are too large, as in tables of arithmetic."""
    return UserError(error.message, where=config.records, settings={"split": "random"})


def _given(parts: Sequence[str], config: InstructConfig) -> tuple[list[int], list[int], list[int]]:
    train, validation, test = (
        [i for i, part in enumerate(parts) if part == name]
        for name in ("train", "validation", "test")
    )
    if not (train and test):
        raise UserError(
            f"The column {config.split_column!r} puts {len(train):,} records that fit the context "
            f"into train and {len(test):,} into test. At least one of each is expected.",
            where=config.records,
        )
    return train, validation, _at_most(config.max_test, test)


def _at_most(n: int, rows: list[int]) -> list[int]:
    """Return `n` of the rows, spread evenly, if there are more."""
    return rows if len(rows) <= n else [rows[k * len(rows) // n] for k in range(n)]


def _items(tested: Sequence[Conversation], training: Sequence[Conversation]) -> list[Item]:
    """Make test items: their keys, and the training prompts that are most similar."""
    if not tested:
        return []
    near = nearest(
        [c.prompt for c in tested],
        [c.prompt for c in training],
        PROMPT_RULE,
    )
    items = []
    for conversation, (index, similarity) in zip(tested, near, strict=True):
        reference = conversation.answer
        key = key_of(conversation.messages[-2].content, reference)
        items.append(
            Item(
                messages=tuple(conversation.messages[:-1]),
                reference=reference,
                kind=conversation.kind or ("" if key is None else key.kind),
                has_key=None if key is None else key.accepts,
                near_duplicate=similarity,
                is_near_duplicate=similarity >= PROMPT_RULE.threshold,
                nearest_answer=training[index].answer,
                where=conversation.where,
            )
        )
    return items


def _synthetic_items(tested: Sequence[Conversation]) -> list[Item]:
    return [
        Item(
            messages=tuple(c.messages[:-1]),
            reference=c.answer,
            kind=c.kind,
            has_key=partial(_has_expected, GRADERS[c.kind], c.answer),
        )
        for c in tested
    ]


def _has_expected(grader: Grader, expected: str, answer: str) -> bool:
    return grader(answer, expected)


def _texts(config: InstructConfig, split: str) -> list[str]:
    documents = documents_of(config.run, config.data, split, instead="records")
    return [document.text for document in documents]


def _require_enough(
    dataset: Dataset,
    config: InstructConfig,
    context_length: int,
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
) -> None:
    """Check that a training and a test set can be made of what fits."""
    rows = dataset.rows
    n_sets = 2 if dataset.groups is not None else 1 + bool(dataset.sets[2])
    if len(rows.rows) >= n_sets and (dataset.groups is not None or all(dataset.sets[::2])):
        return
    n = dataset.n_read
    if rows.n_too_long:
        raise UserError(
            f"{rows.n_too_long:,} of {n:,} records are longer than the context length of "
            f"{context_length} tokens, and too few are left for a training and a test set. "
            "Shorter records, or a model with a longer context, are expected.",
            where=config.records,
        )
    raise UserError(
        f"The number of records is {n}. At least two records are expected, one for training and "
        "one for testing.",
        where=config.records,
    )
