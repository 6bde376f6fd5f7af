"""Write the prompt of an item, with solved examples before it, and encode it.

A prompt and its continuation are encoded as one text, as `lm-evaluation-harness` does it, because
a tokenizer may join characters across the border. White space at the end of a prompt belongs to the
continuation.
"""

import random
import string
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal

from groundup.base.errors import UsageError, UserError
from groundup.evaluation.load import LanguageModel
from groundup.evaluation.task_config import TaskConfig
from groundup.evaluation.tasks.items import Item
from groundup.evaluation.text_generation import continued_ids, prompt_ids
from groundup.tokenizer.conversation import render_ids
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.template import Message

_BETWEEN_EXAMPLES = "\n\n"


@dataclass(frozen=True, kw_only=True)
class TaskPrompt:
    """The prompt of an item."""

    text: str | list[dict[str, str]]
    """The text, or the messages of a conversation."""
    ids: list[int]
    continuations: list[list[int]]
    """The ids of each choice."""

    @property
    def n_tokens(self) -> int:
        """Tokens that are computed where nothing is shared."""
        if not self.continuations:
            return len(self.ids)
        return sum(len(self.ids) + len(each) - 1 for each in self.continuations)


class Prompter:
    """Writes the prompts of a task for a model.

    Args:
        language_model: The model with its tokenizer.
        config: How prompts are written.
        pool: The items that examples are taken from.

    Raises:
        UsageError: A chat template is asked for, and the model has none.
    """

    def __init__(
        self, language_model: LanguageModel, config: TaskConfig, pool: Sequence[Item]
    ) -> None:
        self._language_model = language_model
        self._config = config
        if config.template == "chat" and not language_model.can_chat:
            raise UsageError(
                "This model has no chat template. An assistant, or an imported model with a chat "
                "template, is expected.",
                where=language_model.path,
                settings={"template": "plain"},
            )
        self.is_chat = config.template == "chat" or (
            config.template == "auto" and language_model.is_assistant
        )
        self._format = config.prompt
        if self._format is None:
            self._format = "{question}" if self.is_chat else "{question}\nAnswer:"
        self._pool = list(pool)
        random.Random(config.task_seed).shuffle(self._pool)

    def prompt(self, item: Item) -> TaskPrompt:
        """Write the prompt of an item.

        Raises:
            UsageError: The prompt names a field that the item does not have, there are too few
                examples, or the tokenizer cannot encode it.
        """
        examples = self._examples(item)
        try:
            return self._chat(item, examples) if self.is_chat else self._plain(item, examples)
        except UsageError:
            raise
        except UserError as error:
            raise UsageError(error.message, where=item.name) from error

    def _examples(self, item: Item) -> list[Item]:
        # The same ones for nearly all items, so that their prompts share them.
        key = (item.question, item.choices)
        found = [each for each in self._pool if (each.question, each.choices) != key]
        n = self._config.shots
        if len(found) < n:
            raise UsageError(
                f"There are {len(found)} items to take examples from, and shots is {n}.",
                where=item.name,
                settings={"shots": len(found)},
            )
        return found[:n]

    def _plain(self, item: Item, examples: Sequence[Item]) -> TaskPrompt:
        tokenizer = self._language_model.tokenizer
        solved = [f"{self._written(e)}{self._continuation(e, e.answers[0])}" for e in examples]
        text = _BETWEEN_EXAMPLES.join([*solved, self._written(item)])
        begin = getattr(tokenizer, "begin_ids", [])
        context, *others = encode_pairs(
            tokenizer, text, [self._continuation(item, choice) for choice in item.choices]
        )
        return TaskPrompt(
            text=text,
            ids=_not_empty([*begin, *context], "The prompt", item),
            continuations=[_not_empty(ids, "A choice", item) for ids in others],
        )

    def _chat(self, item: Item, examples: Sequence[Item]) -> TaskPrompt:
        tokenizer = self._language_model.tokenizer
        messages = []
        for example in examples:
            messages.append(Message("user", self._written(example)))
            messages.append(Message("assistant", example.answers[0]))
        messages.append(Message("user", self._written(item)))
        ids, _ = render_ids(
            messages, tokenizer, self._language_model.chat_template, add_generation_prompt=True
        )
        return TaskPrompt(
            text=[{"role": m.role, "content": m.content} for m in messages],
            ids=ids,
            continuations=[
                _not_empty(continued_ids(tokenizer, choice), "A choice", item)
                for choice in item.choices
            ],
        )

    def _written(self, item: Item) -> str:
        written = ""
        assert self._format is not None
        try:
            parts = list(string.Formatter().parse(self._format))
        except ValueError as error:
            raise UsageError(
                f"The prompt {self._format!r} cannot be read ({error}). Names of fields in braces "
                "are expected.",
                settings={"prompt": "{question}"},
            ) from error
        for before, name, _, _ in parts:
            written += before
            if name is None:
                continue
            if name not in item.fields:
                raise UsageError(
                    f"The prompt names the field {name!r}, and this item has no such text (it "
                    f"has: {', '.join(item.fields)}).",
                    where=item.name,
                    settings={"prompt": "{question}"},
                )
            written += item.fields[name]
        return written

    def _continuation(self, item: Item, answer: str) -> str:
        is_apart = self._written(item)[-1:].isspace() or answer[:1].isspace()
        return answer if is_apart else f" {answer}"


def question_prompts(language_model: LanguageModel, questions: Sequence[str]) -> list[list[int]]:
    """Write questions with the chat template of a model, or as they are if it has none."""
    tokenizer = language_model.tokenizer
    if not language_model.can_chat:
        return [prompt_ids(language_model, question) for question in questions]
    template = language_model.chat_template
    return [
        render_ids([Message("user", q)], tokenizer, template, add_generation_prompt=True)[0]
        for q in questions
    ]


def encode_pairs(
    tokenizer: Tokenizer,
    context: str,
    continuations: Sequence[str],
    *,
    allowed_special: AbstractSet[str] | Literal["all"] = frozenset(),
) -> list[list[int]]:
    """Encode a prompt, and each of its continuations as they follow it.

    Args:
        tokenizer: The tokenizer.
        context: The prompt.
        continuations: The texts that follow it.
        allowed_special: Names of special tokens that are special in these texts.

    Returns:
        The ids of the prompt, then those of each continuation.

    >>> from groundup.tokenizer.characters import CharacterTokenizer
    >>> letters = CharacterTokenizer.from_text("ab c")
    >>> [letters.decode(ids) for ids in encode_pairs(letters, "a ", ["b", "c"])]
    ['a', ' b', ' c']
    """
    kept = context.rstrip() if continuations else context
    ids = tokenizer.encode(kept, allowed_special)
    whole = (tokenizer.encode(context + each, allowed_special) for each in continuations)
    return [ids, *(each[len(ids) :] for each in whole)]


def _not_empty(ids: list[int], what: str, item: Item) -> list[int]:
    if not ids:
        raise UsageError(
            f"{what} has no tokens. Text that the tokenizer of the model can write is expected.",
            where=item.name,
        )
    return ids
