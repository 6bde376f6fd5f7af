"""Scores of answers: key match, exact match, token F1, length, and whether the answer ended."""

import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from groundup.finetune.instruct.graders import exact
from groundup.tokenizer.template import Message

METRICS = ("key match", "exact match", "token F1")
"""The metrics that an assistant is judged by, the most reliable first."""
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One test record: what precedes its last answer, and how answers are scored."""

    messages: tuple[Message, ...]
    """The conversation before the answer, ending with the user's message."""
    reference: str
    """The expected answer."""
    kind: str = ""
    """The kind of task, "" if it is unknown."""
    has_key: Callable[[str], bool] | None = None
    """Tests for the key. None: the prompt has no key."""
    near_duplicate: float = 0.0
    """Jaccard similarity of the most similar training prompt."""
    is_near_duplicate: bool = False
    """Whether a training prompt is a near duplicate of this prompt."""
    nearest_answer: str = ""
    """The answer to the most similar training prompt."""
    where: str = ""

    @property
    def prompt(self) -> str:
        """The last message of the user."""
        return self.messages[-1].content


@dataclass(frozen=True, kw_only=True)
class Scored:
    """An answer to a test item with its scores."""

    text: str
    key: bool | None
    """Whether the answer has the key. None: the prompt has none."""
    exact: bool
    f1: float
    n_words: int
    is_ended: bool | None
    """Whether the model ended the answer by itself. None: it was not generated."""

    def value(self, metric: str) -> float | None:
        """Return the score by one of `METRICS`. None: the prompt has no key."""
        found = {"key match": self.key, "exact match": self.exact, "token F1": self.f1}[metric]
        return None if found is None else float(found)


def score(item: Item, text: str, *, is_ended: bool | None = None) -> Scored:
    """Score an answer."""
    return Scored(
        text=text,
        key=None if item.has_key is None else item.has_key(text),
        exact=exact(text, item.reference),
        f1=token_f1(text, item.reference),
        n_words=len(text.split()),
        is_ended=is_ended,
    )


def token_f1(answer: str, expected: str) -> float:
    """Compute the F1 score of the words of an answer, without case and punctuation.

    Source: "SQuAD: 100,000+ Questions for Machine Comprehension of Text", section 6.1; articles are
        not removed here.

    >>> token_f1("The cat sat.", "the cat"), token_f1("", "the cat")
    (0.8, 0.0)
    """
    found, target = (Counter(_words(text)) for text in (answer, expected))
    n_common = sum((found & target).values())
    return 2 * n_common / (found.total() + target.total()) if n_common else 0.0


def values(answers: Sequence[Scored], metric: str, among: Sequence[bool]) -> list[float]:
    """List the scores of those answers that have one and are `among` the rows."""
    some = (a.value(metric) for a, is_in in zip(answers, among, strict=True) if is_in)
    return [value for value in some if value is not None]


def _words(text: str) -> list[str]:
    return text.casefold().translate(_PUNCTUATION).split()
