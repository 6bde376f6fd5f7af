"""Synthetic instruction records: questions about the words of a text, with answers to check.

There are nine kinds of questions, from repeating a word to writing it in capital letters, and
questions about the assistant itself. A model of a million parameters learns some of them in under a
minute and fails at others. In the answers a
word follows a space, as it does in the question: a byte-level tokenizer gives ` object` and
`object` different ids, and copying is easy only with equal ids.

No test prompt is a training prompt. The kinds about one word are tested on words that no training
record of these kinds contains. The kinds about several words are tested on new combinations. "Which
word follows" is tested both on text that the model was trained on and on text that it was not.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from groundup.base.errors import UserError
from groundup.finetune.instruct.graders import (
    Grader,
    exact,
    exact_ignoring_case,
    final_word,
    number,
)
from groundup.tokenizer.template import Message

YES_OR_NO = "is it there"
ABOUT_ITSELF = "about itself"
"""Has no test records: every question of this kind is trained on."""
GRADERS: Mapping[str, Grader] = {
    "repeat": final_word,
    "first word": final_word,
    "last word": final_word,
    YES_OR_NO: exact_ignoring_case,
    "how many": number,
    "first letter": final_word,
    "capitals": final_word,
    "next word, text read": final_word,
    "next word, new text": final_word,
}
"""The grader of each kind, in the order in which the kinds are listed."""


@dataclass(frozen=True)
class Record:
    """A question with its answer. `kind` names the type of task."""

    prompt: str
    output: str
    kind: str = ""
    earlier: tuple[Message, ...] = ()
    """Messages before the question."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """The question and the answer, as a conversation."""
        return *self.earlier, Message("user", self.prompt), Message("assistant", self.output)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What an assistant can truly say about itself."""

    name: str
    n_parameters: int
    trained_on: str
    """The text that the model was pretrained on."""

    def records(self) -> list[Record]:
        """Make the questions about the assistant, with their answers."""
        who = f"I am {self.name}, a language model with {self.size} parameters."
        text = f"I was trained on {self.trained_on}."
        answers = {
            who: ("Who are you?", "Who are you", "What are you?", "What is your name?"),
            f"Hello! {who}": ("Hello", "Hello!", "Hi", "Hi!", "Hey", "Good morning"),
            f"I have {self.size} parameters.": (
                "How large are you?", "How big are you?", "How many parameters do you have?",
            ),
            text: ("What were you trained on?", "What have you read?", "What do you know?"),
        }  # fmt: skip
        return [
            Record(question, answer, ABOUT_ITSELF)
            for answer, questions in answers.items()
            for question in questions
        ]

    @property
    def size(self) -> str:
        """The number of parameters in words.

        >>> Identity(name="a", n_parameters=1_972_000, trained_on="b").size
        '2.0 million'
        """
        if self.n_parameters < 1_000_000:
            return f"{self.n_parameters / 1e3:.0f} thousand"
        return f"{self.n_parameters / 1e6:.1f} million"


WORD = re.compile(r"(?<!\w)[^\W\d_]{3,9}(?!\w)")
PHRASE = re.compile(r"(?<!\w)[^\W\d_]+(?: [^\W\d_]+){4}(?!\w)")
MAX_WORDS = 300
MIN_WORDS = 40
_ONE_IN = 10
"""One question in this many follows a question about the assistant."""


def grade(record: Record, answer: str) -> bool:
    """Decide whether an answer is correct; a record of unknown kind requires an exact match.

    >>> grade(Record("How many words are here: a b", "There are 2 words.", kind="how many"), "2")
    True
    >>> grade(Record("Name a color.", "Red"), "Blue")
    False
    """
    return GRADERS.get(record.kind, exact)(answer, record.output)


def common_words(texts: Iterable[str]) -> list[str]:
    """List the most frequent lower-case words of 3 to 9 letters that occur at least twice.

    >>> common_words(["the cat and the dog and The"])
    ['and', 'the']
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word in WORD.findall(text) if word.islower())
    # Sorted by name within a count, so that the result does not depend on the document order.
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [word for word, count in ranked if count >= 2][:MAX_WORDS]


def make_synthetic_records(
    train_texts: Sequence[str],
    validation_texts: Sequence[str],
    *,
    n_train: int,
    n_test_per_kind: int,
    seed: int,
    identity: Identity | None = None,
) -> tuple[list[Record], list[Record]]:
    """Make training and test records; no test prompt is a training prompt.

    Args:
        train_texts: Training documents: the source of the words and of most phrases.
        validation_texts: Validation documents: the source of the kind "next word, new text".
        n_train: Number of training records, the kinds in turn.
        n_test_per_kind: Number of test records of each kind.
        seed: Random seed of the records.
        identity: What the assistant says about itself. None: nothing.

    Returns:
        (train, test).

    Raises:
        UserError: The training documents have too few different words.
    """
    rng = np.random.default_rng(seed)
    words = common_words(train_texts)
    if len(words) < MIN_WORDS:
        raise UserError(
            f"The training documents contain only {len(words)} different words of 3 to 9 letters "
            f"that occur twice. At least {MIN_WORDS} are expected. Use a longer text or a file of "
            "instruction records."
        )
    shuffled = [words[i] for i in rng.permutation(len(words))]
    n_test_words = min(n_test_per_kind, len(words) // 3)
    read = _phrases(train_texts)
    known = set(read)
    new = [phrase for phrase in _phrases(validation_texts) if phrase not in known]
    read = [read[i] for i in rng.permutation(len(read))]
    for_test = _Material(
        words=words, single_words=shuffled[:n_test_words], read=read[:n_test_per_kind], new=new
    )
    for_training = _Material(
        words=words, single_words=shuffled[n_test_words:], read=read[n_test_per_kind:], new=[]
    )
    test = _make(rng, for_test, n_test_per_kind * len(GRADERS))
    in_test = {record.prompt for record in test}
    about = [] if identity is None else identity.records()
    n_about = n_train // (len(GRADERS) + 1) if about else 0
    train = [r for r in _make(rng, for_training, n_train - n_about) if r.prompt not in in_test]
    train += [about[i % len(about)] for i in range(n_about)]
    train = [train[i] for i in rng.permutation(len(train))]
    return (_with_earlier(train, about, rng) if about else train), test


def _with_earlier(
    train: list[Record], about: Sequence[Record], rng: np.random.Generator
) -> list[Record]:
    """Put another question before some, so that the assistant knows the second turn of a chat."""
    found = []
    for turn, record in enumerate(train):
        earlier: tuple[Message, ...] = ()
        if record.kind == ABOUT_ITSELF and turn % 2:
            earlier = train[int(rng.integers(len(train)))].messages
        elif turn % _ONE_IN == 0:
            earlier = about[int(rng.integers(len(about)))].messages
        found.append(replace(record, earlier=earlier))
    return found


@dataclass(frozen=True, kw_only=True)
class _Material:
    """Words and phrases for the records of one split."""

    words: Sequence[str]
    single_words: Sequence[str]
    read: Sequence[str]
    new: Sequence[str]

    def kinds(self) -> list[str]:
        """List the kinds that these words and phrases are enough for."""
        absent = {
            "next word, text read": not self.read,
            "next word, new text": not self.new,
        }
        return [kind for kind in GRADERS if not absent.get(kind, False)]


def _phrases(texts: Sequence[str]) -> list[str]:
    """List all runs of five words between single spaces, in order, without repetition."""
    found = (match for text in texts for match in PHRASE.findall(text))
    return list(dict.fromkeys(found))


def _make(rng: np.random.Generator, material: _Material, n_records: int) -> list[Record]:
    """Make records, the kinds in turn. Prompts repeat when a kind has few different ones."""
    kinds = material.kinds()
    records: list[Record] = []
    prompts: set[str] = set()
    for turn in range(n_records):
        record = _make_one(rng, kinds[turn % len(kinds)], material)
        for _ in range(10):  # attempts at a new prompt
            if record.prompt not in prompts:
                break
            record = _make_one(rng, record.kind, material)
        prompts.add(record.prompt)
        records.append(record)
    return records


def _make_one(rng: np.random.Generator, kind: str, material: _Material) -> Record:
    """Make a record of this kind with randomly drawn words."""
    words, singles = material.words, material.single_words
    some = [words[i] for i in rng.choice(len(words), size=int(rng.integers(2, 7)), replace=False)]
    row, single = " ".join(some), singles[int(rng.integers(len(singles)))]
    match kind:
        case "repeat":
            question, answer = f"Repeat this word: {single}", f"The word is {single}."
        case "first word":
            question, answer = f"Which word comes first: {row}", f"The first word is {some[0]}."
        case "last word":
            question, answer = f"Which word comes last: {row}", f"The last word is {some[-1]}."
        case "is it there":
            # Both answers are equally frequent: always "Yes" has an accuracy of one half.
            there = bool(rng.integers(2))
            rest = some[1:]
            asked = rest[int(rng.integers(len(rest)))] if there else some[0]
            question = f"Is the word {asked} among these: {' '.join(rest)}"
            answer = "Yes." if there else "No."
        case "how many":
            question, answer = f"How many words are here: {row}", f"There are {len(some)} words."
        case "first letter":
            question = f"Which letter does this word begin with: {single}"
            answer = f"It begins with {single[0]}."
        case "capitals":
            question = f"Write this word in capital letters: {single}"
            answer = f"In capitals it is {single.upper()}."
        case "next word, text read" | "next word, new text":
            phrases = material.read if kind.endswith("read") else material.new
            start, _, follows = phrases[int(rng.integers(len(phrases)))].rpartition(" ")
            question, answer = f"Which word follows: {start}", f"The next word is {follows}."
        case _:
            raise AssertionError(kind)
    return Record(question, answer, kind)
