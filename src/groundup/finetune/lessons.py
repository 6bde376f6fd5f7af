"""Lessons: simple instructions about the user's own words, each with an answer that can be checked.

Nine kinds, from copying a word to writing it in capital letters. They are chosen so that a model
of a million parameters learns some of them in under a minute and fails at others, which is the
honest picture. The answers are short sentences in which a word follows a space, as it does in the
question: a byte-level tokenizer gives ` object` and `object` different ids, and copying is only
simple while the id is the same.

A word that stands in a held-out lesson stands in no training lesson: what is measured is the
skill, not the memory of an answer. The one exception is `next word`, whose phrases come from
other documents instead.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from groundup.base.errors import UserError
from groundup.finetune.graders import Grader, exact, exact_ignoring_case, final_word, number
from groundup.finetune.records import Record

GRADERS: Mapping[str, Grader] = {
    "repeat": final_word,
    "first word": final_word,
    "last word": final_word,
    "is it there": exact_ignoring_case,
    "how many": number,
    "first letter": final_word,
    "backwards": exact,
    "capitals": final_word,
    "next word": final_word,
}
"""How each kind of lesson is graded, in the order in which they are shown."""

WORD = re.compile(r"(?<!\w)[^\W\d_]{3,9}(?!\w)")
PHRASE = re.compile(r"(?<!\w)[^\W\d_]+(?: [^\W\d_]+){4}(?!\w)")
MOST_WORDS = 1200
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
    """Write training lessons and held-out ones; no prompt and no asked-about word is in both.

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
    n_held = max(8, len(words) // 6)
    phrases, held_phrases = _phrases(train_texts), _phrases(held_out_texts)
    held_phrases = [phrase for phrase in held_phrases if phrase not in set(phrases)]
    kinds = [kind for kind in GRADERS if kind != "next word" or (phrases and held_phrases)]
    test = _write(rng, kinds, shuffled[:n_held], held_phrases, n_test_per_kind * len(kinds))
    asked = {record.prompt for record in test}
    train = _write(rng, kinds, shuffled[n_held:], phrases, n_train)
    train = [record for record in train if record.prompt not in asked]
    order = rng.permutation(len(train))
    return [train[i] for i in order], test


def _phrases(texts: Sequence[str]) -> list[str]:
    """All runs of five plain words, in order, each once."""
    found = (match for text in texts for match in PHRASE.findall(text))
    return list(dict.fromkeys(found))


def _write(
    rng: np.random.Generator,
    kinds: Sequence[str],
    words: Sequence[str],
    phrases: Sequence[str],
    n_lessons: int,
) -> list[Record]:
    """Different lessons, the kinds in turn; fewer where a kind has run out of questions."""
    written: dict[str, Record] = {}
    for turn in range(n_lessons):
        kind = kinds[turn % len(kinds)]
        for _ in range(20):  # a few tries for a question that has not been asked yet
            record = _one(rng, kind, words, phrases)
            if record.prompt not in written:
                written[record.prompt] = record
                break
    return list(written.values())


def _one(
    rng: np.random.Generator, kind: str, words: Sequence[str], phrases: Sequence[str]
) -> Record:
    """One lesson of the kind, about randomly drawn words."""
    some = [words[i] for i in rng.choice(len(words), size=int(rng.integers(2, 7)), replace=False)]
    row, word = " ".join(some), some[0]
    match kind:
        case "repeat":
            question, answer = f"Repeat this word: {word}", f"The word is {word}."
        case "first word":
            question, answer = f"Which word comes first: {row}", f"The first word is {word}."
        case "last word":
            question, answer = f"Which word comes last: {row}", f"The last word is {some[-1]}."
        case "is it there":
            # One of the row or a stranger, evenly: always "Yes" is right half the time.
            there = bool(rng.integers(2))
            rest = some[1:]
            asked = rest[int(rng.integers(len(rest)))] if there else word
            question = f"Is the word {asked} among these: {' '.join(rest)}"
            answer = "Yes." if there else "No."
        case "how many":
            question, answer = f"How many words are here: {row}", f"There are {len(some)} words."
        case "first letter":
            question = f"Which letter does this word begin with: {word}"
            answer = f"It begins with {word[0]}."
        case "backwards":
            some = some[:4]
            question = f"Say these words in reverse order: {' '.join(some)}"
            answer = f"Reversed: {' '.join(reversed(some))}."
        case "capitals":
            question = f"Write this word in capital letters: {word}"
            answer = f"In capitals it is {word.upper()}."
        case "next word":
            phrase = phrases[int(rng.integers(len(phrases)))]
            start, _, follows = phrase.rpartition(" ")
            question, answer = f"Which word follows: {start}", f"The next word is {follows}."
        case _:
            raise AssertionError(f"no lesson of kind {kind!r}")
    return Record(instruction=question, output=answer, kind=kind)
