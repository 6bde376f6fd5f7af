"""The prompts of GRPO: additions, or a file of prompts and answers."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from groundup.alignment.reinforce.config import ReinforceConfig
from groundup.base.errors import UsageError
from groundup.evaluation.load import LanguageModel
from groundup.evaluation.paired import MIN_ITEMS
from groundup.evaluation.text_generation import prompt_ids
from groundup.records.conversations import read_conversations
from groundup.text.grams import fold
from groundup.text.left_out import LeftOut
from groundup.tokenizer.conversation import render_ids

_N_ADDITIONS = 4096
"""Training prompts are drawn from this many, which is more than a run uses."""


@dataclass(frozen=True)
class Item:
    """A prompt, and what a reward compares the reply with."""

    prompt: str
    answer: str
    ids: tuple[int, ...]
    """Token ids of the prompt, as the model reads it."""
    ends_at_newline: bool
    """Whether a reply is one line. Otherwise it is a turn of a conversation."""
    where: str
    """Its number, or its place in the file."""


@dataclass(frozen=True)
class Items:
    """The prompts to train on, and the test set."""

    train: list[Item]
    test: list[Item]
    n_left_out: int = 0
    """Prompts that do not fit in the context with a reply."""
    n_repeated: int = 0
    """Training prompts with the text of a test prompt, which are left out."""
    reading: LeftOut = field(default_factory=LeftOut)
    """What was left out of the file of prompts."""


def make_items(config: ReinforceConfig, language_model: LanguageModel) -> Items:
    """Make or read the prompts, and divide them into a training set and a test set.

    Raises:
        UserError: A record is invalid, or there are too few prompts.
    """
    if config.test_items < MIN_ITEMS:
        raise UsageError(
            f"test_items is {config.test_items}, which is too few to compare. At least "
            f"{MIN_ITEMS} are expected.",
            settings={"test_items": MIN_ITEMS},
        )
    generator = random.Random(config.seed)
    make = _additions if config.prompts is None else _from_file
    items = make(config, language_model, generator)
    if (n := len(items.train)) < config.batch_size:
        raise UsageError(
            f"{n} prompts are left for training, and batch_size is {config.batch_size}. A batch of "
            "at most as many different prompts is expected.",
            settings={"batch_size": max(1, n)},
        )
    return items


def _additions(
    config: ReinforceConfig, language_model: LanguageModel, generator: random.Random
) -> Items:
    """Make additions. A pair of numbers is in one of the sets, whichever number comes first."""
    n = config.max_number
    pairs = [(a, b) for a in range(1, n + 1) for b in range(a, n + 1)] if n <= 500 else [
        tuple(sorted((generator.randint(1, n), generator.randint(1, n)))) for _ in range(100_000)
    ]  # fmt: skip
    pairs = sorted(set(pairs))
    generator.shuffle(pairs)
    if len(pairs) < 2 * config.test_items:
        raise UsageError(
            f"There are {len(pairs)} pairs of numbers up to {n}, and {config.test_items} of them "
            "are test prompts. At least as many are expected for training.",
            settings={"test_items": max(MIN_ITEMS, len(pairs) // 2)}
            | ({} if len(pairs) >= 2 * MIN_ITEMS else {"max_number": 11}),
        )
    test, train = pairs[: config.test_items], pairs[config.test_items :]

    def line(pair: Sequence[int]) -> tuple[str, str]:
        a, b = generator.sample(pair, 2)
        return f"{a} + {b} =", str(a + b)

    def item(pair: Sequence[int], number: int) -> Item:
        solved = [" ".join(line(generator.choice(train))) for _ in range(config.shots)]
        question, answer = line(pair)
        text = "\n".join([*solved, question])
        ids = tuple(prompt_ids(language_model, text))
        return Item(text, answer, ids, True, f"addition {number}")

    found_test = [item(pair, i) for i, pair in enumerate(test)]
    return _fitting(
        [item(generator.choice(train), i) for i in range(_N_ADDITIONS)],
        found_test,
        config,
        language_model,
    )


def _from_file(
    config: ReinforceConfig, language_model: LanguageModel, generator: random.Random
) -> Items:
    """Read prompts. No training prompt equals a test prompt but for case and punctuation."""
    assert config.prompts is not None
    reading = LeftOut()
    records = read_conversations(config.prompts, config, left_out=reading)
    is_chat = language_model.can_chat
    items = []
    for record in records:
        messages = list(record.messages[:-1])
        if is_chat:
            ids, _ = render_ids(
                messages,
                language_model.tokenizer,
                language_model.chat_template,
                add_generation_prompt=True,
            )
        elif len(messages) > 1:
            raise UsageError(
                f"This record has {len(messages)} messages before its answer, and the model has no "
                "chat template that could write them. A single prompt is expected.",
                where=record.where,
            )
        else:
            ids = prompt_ids(language_model, record.prompt)
        items.append(
            Item(record.prompt, record.answer.strip(), tuple(ids), not is_chat, record.where)
        )
    generator.shuffle(items)
    if len(items) < 2 * config.test_items:
        raise UsageError(
            f"The file has {len(items)} prompts, and {config.test_items} of them are the test set. "
            f"At least {2 * config.test_items} are expected.",
            where=config.prompts,
            settings={"test_items": MIN_ITEMS} if len(items) >= 2 * MIN_ITEMS else None,
        )
    test, rest = items[: config.test_items], items[config.test_items :]
    taken = {fold(item.prompt, fold_digits=False) for item in test}
    train = [item for item in rest if fold(item.prompt, fold_digits=False) not in taken]
    found = _fitting(train, test, config, language_model)
    return replace(found, n_repeated=len(rest) - len(train), reading=reading)


def _fitting(
    train: list[Item], test: list[Item], config: ReinforceConfig, language_model: LanguageModel
) -> Items:
    """Leave out prompts that do not fit in the context together with a reply.

    Raises:
        UserError: Too few are left.
    """
    most = language_model.model.config.context_length - config.max_new_tokens
    fit_train, fit_test = ([i for i in some if len(i.ids) <= most] for some in (train, test))
    if not fit_train or len(fit_test) < MIN_ITEMS:
        longest = max(len(item.ids) for item in (*train, *test))
        raise UsageError(
            f"The longest prompt has {longest} tokens. With {config.max_new_tokens} new tokens, "
            f"at most {max(most, 0)} fit in the context of the model, and too few prompts are "
            "left. Shorter prompts are expected.",
            where=config.prompts,
            settings={"shots": 0} if config.prompts is None and config.shots else None,
        )
    n_left_out = len(train) + len(test) - len(fit_train) - len(fit_test)
    return Items(fit_train, fit_test, n_left_out)
