"""What an assistant must be better than: answers that cost no training.

Token F1 rewards an answer that repeats the words of the input, and short answers. An assistant is
therefore compared with the best of these baselines, not only with the model before fine-tuning.
"""

import re
from collections.abc import Sequence
from itertools import islice

from groundup.finetune.instruct.scores import Item
from groundup.records.rows import Conversation
from groundup.tokenizer.template import Message

ECHO = "repeat the input"
NEAREST = "nearest prompt's answer"
UNTUNED = "untuned"
FIRST_SENTENCE = "untuned, first sentence"
TUNED = "fine-tuned"

_SENTENCE = re.compile(r".+?[.!?](?=\s|$)|[^\n]+", re.DOTALL)


def few_shot(shots: int) -> str:
    """Name the untuned model with examples in its prompt."""
    return f"untuned, {shots}-shot"


def echo(item: Item) -> str:
    r"""Repeat the input: the last paragraph of the prompt.

    >>> echo(Item(messages=(Message("user", "Make it formal.\nHi there"),), reference=""))
    'Hi there'
    """
    return item.prompt.strip().partition("\n")[2].strip() or item.prompt.strip()


def first_sentence(text: str) -> str:
    """Cut an answer after its first sentence.

    >>> first_sentence("It is 3.5 m. That is long.")
    'It is 3.5 m.'
    """
    found = _SENTENCE.search(text.strip())
    return found.group().strip() if found else ""


def with_examples(item: Item, training: Sequence[Conversation], shots: int) -> tuple[Message, ...]:
    """Put the first training records, as exchanges, before the item's conversation."""
    n_system = sum(message.role == "system" for message in item.messages)
    single = (c for c in training if [m.role for m in c.messages] == ["user", "assistant"])
    examples = [message for c in islice(single, shots) for message in c.messages]
    return (*item.messages[:n_system], *examples, *item.messages[n_system:])
