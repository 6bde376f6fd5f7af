"""Lessons: simple instructions about the user's own words, each with an answer that can be checked.

Nine kinds, from repeating a word to writing it in capital letters. They are chosen so that a model
of a million parameters learns some of them in under a minute and fails at others, which is the
honest picture. The answers are short sentences in which a word follows a space, as it does in the
question: a byte-level tokenizer gives ` object` and `object` different ids, and copying is only
simple while the id is the same.

No held-out prompt is a training prompt. The kinds about one word are tested on words no training
lesson of these kinds has asked about; the kinds about several words mix known words anew; and
"which word follows?" is asked twice, of text the model has read and of text it has not.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from groundup.base.errors import UserError
from groundup.finetune.instruct.graders import (
    Grader,
    exact,
    exact_ignoring_case,
    final_word,
    number,
)
from groundup.finetune.instruct.records import Record

GRADERS: Mapping[str, Grader] = {
    "repeat": final_word,
    "first word": final_word,
    "last word": final_word,
    "is it there": exact_ignoring_case,
    "how many": number,
    "first letter": final_word,
    "capitals": final_word,
    "next word, text read": final_word,
    "next word, new text": final_word,
}
"""How each kind of lesson is graded, in the order in which they are shown."""

WORD = re.compile(r"(?<!\w)[^\W\d_]{3,9}(?!\w)")
PHRASE = re.compile(r"(?<!\w)[^\W\d_]+(?: [^\W\d_]+){4}(?!\w)")
MOST_WORDS = 300
FEWEST_WORDS = 40


def grade(record: Record, answer: str) -> bool:
    """Is the answer right? A record of no known kind must be answered word for word.

    >>> grade(Record("How many words are here: a b", "There are 2 words.", kind="how many"), "2")
    True
    >>> grade(Record("Name a colour.", "Red"), "Blue")
    False
    """
    return GRADERS.get(record.kind, exact)(answer, record.output)


def common_words(texts: Iterable[str]) -> list[str]:
    """The most frequent lower-case words of 3 to 9 letters, each occurring at least twice.

    >>> common_words(["the cat and the dog and The"])
    ['and', 'the']
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word in WORD.findall(text) if word.islower())
    # Sorted by name within a count, so that the order never depends on the order of the documents.
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [word for word, count in ranked if count >= 2][:MOST_WORDS]


def make_lessons(
    train_texts: Sequence[str],
    held_out_texts: Sequence[str],
    *,
    n_train: int,
    n_test_per_kind: int,
    seed: int,
) -> tuple[list[Record], list[Record]]:
    """Write training lessons and held-out ones; no prompt is in both.

    Args:
        train_texts: Documents the model may learn from; they supply the words and the phrases.
        held_out_texts: Documents kept from training; they supply the phrases of the test.
        n_train: Number of training lessons, the kinds in turn.
        n_test_per_kind: Held-out lessons of each kind.
        seed: The same seed writes the same lessons.

    Raises:
        UserError: the text has too few different words or phrases to ask about.
    """
    rng = np.random.default_rng(seed)
    words = common_words(train_texts)
    if len(words) < FEWEST_WORDS:
        raise UserError(
            f"the text has only {len(words)} words that occur twice",
            need=f"{FEWEST_WORDS} words of 3 to 9 letters, or a file of instructions,",
            type_this="--records FILE.json",
        )
    shuffled = [words[i] for i in rng.permutation(len(words))]
    n_held = min(n_test_per_kind, len(words) // 3)
    read = _phrases(train_texts)
    new = [phrase for phrase in _phrases(held_out_texts) if phrase not in set(read)]
    read = [read[i] for i in rng.permutation(len(read))]
    held = _Material(
        words=words, single_words=shuffled[:n_held], read=read[:n_test_per_kind], new=new
    )
    free = _Material(
        words=words, single_words=shuffled[n_held:], read=read[n_test_per_kind:], new=[]
    )
    test = _write(rng, held, n_test_per_kind * len(GRADERS))
    asked = {record.prompt for record in test}
    train = [record for record in _write(rng, free, n_train) if record.prompt not in asked]
    order = rng.permutation(len(train))
    return [train[i] for i in order], test


@dataclass(frozen=True, kw_only=True)
class _Material:
    """What lessons of one side may be about."""

    words: Sequence[str]
    single_words: Sequence[str]
    read: Sequence[str]
    new: Sequence[str]

    def kinds(self) -> list[str]:
        """The kinds there is material for."""
        absent = {
            "next word, text read": not self.read,
            "next word, new text": not self.new,
        }
        return [kind for kind in GRADERS if not absent.get(kind, False)]


def _phrases(texts: Sequence[str]) -> list[str]:
    """All runs of five plain words, in order, each once."""
    found = (match for text in texts for match in PHRASE.findall(text))
    return list(dict.fromkeys(found))


def _write(rng: np.random.Generator, material: _Material, n_lessons: int) -> list[Record]:
    """Lessons, the kinds in turn; a question may come again when a kind has few of them."""
    kinds = material.kinds()
    written: list[Record] = []
    prompts: set[str] = set()
    for turn in range(n_lessons):
        record = _one(rng, kinds[turn % len(kinds)], material)
        for _ in range(10):  # a few tries for a question that has not been asked yet
            if record.prompt not in prompts:
                break
            record = _one(rng, record.kind, material)
        prompts.add(record.prompt)
        written.append(record)
    return written


def _one(rng: np.random.Generator, kind: str, material: _Material) -> Record:
    """One lesson of the kind, about randomly drawn words."""
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
            # One of the row or a stranger, evenly: always "Yes" is right half the time.
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
            raise AssertionError(f"no lesson of kind {kind!r}")
    return Record(instruction=question, output=answer, kind=kind)
