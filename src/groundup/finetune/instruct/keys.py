"""Key match: whether an answer has the one word, number or sentence that answers its prompt.

Some prompts have one answer that a program can find in a free text: the antonym of a word, the
result of a conversion, a sentence in another tense. The prompt decides the kind, and the expected
answer holds the key. Other prompts have no key, and only the other scores.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Form = Literal["word", "words", "number", "sentence"]

_KINDS: tuple[tuple[str, Form, str], ...] = (
    ("antonym", "word", r"\b(?:antonyms?|opposite) (?:of|for)\b"),
    ("synonym", "word", r"\bsynonyms? (?:of|for)\b"),
    ("plural", "word", r"\bplural form of\b"),
    ("verb form", "word", r"\bpast participle\b|\bpast[- ]tense (?:of|form|verb)"),
    ("tense", "sentence", r"\btense\b"),
    ("voice", "sentence", r"\b(?:active|passive)(?: voice| form| sentence)\b"),
    ("spelling", "word", r"\b(?:mis)?spell"),
    ("conversion", "number", r"^convert (?:\d|the (?:\w+ )?(?:temperature|mass|number)\b)"),
    (
        "number",
        "number",
        r"^(?:calculate|determine) the \w+|\b(?:sum|root|number) of\b|missing number",
    ),
)
"""Name, form of the key, and a pattern of the prompt. The first that fits is taken."""

_QUOTED = re.compile(r"(?<!\w)(['\"‘“])(.+?)['\"’”](?!\w)")
_NUMBER = re.compile(r"(?<![\w.])-?\$?\d[\d,]*(?:\.\d+)?")
_VERB = re.compile(r"\b(?:is|are|be|means|equals)\b|[:=→]|->", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?])['\"’”]?\s+|\n")
_MOST_WORDS = 6
"""An answer of more words after its verb names several candidates, or none."""
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Key:
    """What an answer must have to be counted as correct."""

    kind: str
    """The kind of prompt, for example "antonym"."""
    form: Form
    values: tuple[str, ...]
    """A word, a number or the words of a sentence, of which one is enough; of "words", all."""
    unit: str = ""
    """The unit after a number, without its plural."""

    def accepts(self, answer: str) -> bool:
        """Test whether an answer has the key.

        >>> key = key_of("What is the opposite of 'old'?", "The opposite of 'old' is 'young'.")
        >>> key.accepts("Young."), key.accepts("The opposite of 'young' is 'old'.")
        (True, False)
        >>> key = key_of("Convert 2,000 milligrams to grams.", "2,000 milligrams is 2 grams.")
        >>> key.accepts("2 grams"), key.accepts("It is 2.0 g."), key.accepts("20 grams")
        (True, False, False)
        """
        if self.form == "number":
            return _number(answer, self.unit) is not None and _is_near(
                float(self.values[0]), _number(answer, self.unit)
            )
        if self.form == "sentence":
            found = _words(answer)
            return len(found) <= 2 * len(_words(self.values[0])) and _has(found, self.values[0])
        claim = _words(_claim(answer))
        n_needed = len(self.values) if self.form == "words" else 1
        n_found = sum(_has(claim, value) for value in self.values)
        return len(claim) <= _MOST_WORDS and n_found >= n_needed


def key_of(prompt: str, expected: str) -> Key | None:
    """Find the key of a prompt in its expected answer. None: it has no key.

    >>> key_of("What is an antonym of 'soft'?", "hard.")
    Key(kind='antonym', form='word', values=('hard',), unit='')
    >>> key_of("Convert 3 meters to centimeters.", "3 meters is 300 centimeters.")
    Key(kind='conversion', form='number', values=('300',), unit='centimeter')
    >>> key_of("Who wrote 'Ulysses'?", "James Joyce.") is None
    True
    """
    for kind, form, pattern in _KINDS:
        if re.search(pattern, prompt, re.IGNORECASE):
            key = _KEYS[form](kind, expected)
            # A key that does not accept its own answer would count a correct answer as wrong.
            if key is not None and key.accepts(expected):
                return key
    return None


def _word_key(kind: str, expected: str) -> Key | None:
    claim = _claim(expected)
    quoted = [" ".join(_words(text)) for _, text in _QUOTED.findall(claim)]
    if not quoted:
        words = _words(claim)
        return Key(kind, "word", (words[0],)) if len(words) == 1 else None
    if re.search(r"\bnot\b", claim):
        quoted = quoted[:1]
    return Key(kind, "words" if " and " in claim else "word", tuple(quoted))


def _number_key(kind: str, expected: str) -> Key | None:
    numbers = _NUMBER.findall(_claim(expected))
    if len(numbers) != 1 or "=" in expected:
        return None
    text = numbers[0].replace("$", "").replace(",", "")
    return Key(kind, "number", (text,), _unit_after(numbers[0], _claim(expected)))


def _sentence_key(kind: str, expected: str) -> Key | None:
    [*sentences] = _SENTENCE_END.split(expected.strip())
    words = _words(expected)
    if len(sentences) != 1 or len(words) < 3 or _QUOTED.search(expected):
        return None
    return Key(kind, "sentence", (" ".join(words),))


_KEYS: dict[Form, Callable[[str, str], Key | None]] = {
    "word": _word_key,
    "number": _number_key,
    "sentence": _sentence_key,
}


def _claim(text: str) -> str:
    """Return what the first sentence says, after its last verb."""
    return _VERB.split(_SENTENCE_END.split(text.strip())[0])[-1].strip()


def _number(answer: str, unit: str) -> float | None:
    """Return the last number of an answer, unless another unit follows it."""
    numbers = _NUMBER.findall(answer)
    if not numbers:
        return None
    after = _unit_after(numbers[-1], answer)
    if unit and after and after != unit:
        return None
    return float(numbers[-1].replace("$", "").replace(",", ""))


def _unit_after(number: str, text: str) -> str:
    rest = _words(text[text.rindex(number) + len(number) :])
    first = next((word for word in rest if word not in ("degrees", "square", "cubic")), "")
    return re.sub(r"(?<=ch|sh)es$|(?<=x)es$|s$", "", first)


def _is_near(key: float, found: float | None) -> bool:
    return found is not None and abs(found - key) <= _TOLERANCE * max(abs(key), abs(found))


def _words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation.

    >>> _words("The Boy's dog ran.")
    ['the', "boy's", 'dog', 'ran']
    """
    return re.findall(r"\w+(?:[-'’]\w+)*", text.casefold())


def _has(words: list[str], key: str) -> bool:
    return f" {key} " in f" {' '.join(words)} "
