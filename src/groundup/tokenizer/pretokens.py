r"""Cut text into pretokens, inside which BPE merges: words, numbers, punctuation, white space.

Every character is in one pretoken: what lies between two matches of a pattern is a pretoken too,
as in the `Split` pre-tokenizer of Hugging Face's tokenizers with behavior `Isolated`.

>>> splitter("gpt4")("It's 12345!\n")
['It', "'s", ' ', '123', '45', '!\n']
>>> splitter(r"\d+")("in 2024.")
['in ', '2024', '.']
"""

import re
from collections.abc import Callable
from typing import Any

import regex

from groundup.base.errors import UserError

# Written so that `regex`, Rust's engines and Oniguruma (in Hugging Face's tokenizers) agree:
# `{1,3}+` would be possessive in the first two and a repetition in the last.
PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt4": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
}


def splitter(pattern: str) -> Callable[[str], list[str]]:
    """Return a function that cuts text by "gpt2", "gpt4" or a pattern of the `regex` package.

    The two named patterns match every character. ASCII text is cut by them with Python's own `re`,
    which is more than twice as fast. The time of other patterns is not limited: one that backtracks
    without end takes as long as it takes.

    Raises:
        UserError: The pattern is not a regular expression, or it searches backwards.
        TypeError: The pattern is not a string.
    """
    compiled = compile_pattern(pattern)
    pattern = PATTERNS.get(pattern, pattern)
    if pattern not in PATTERNS.values():
        return lambda text: _cut(compiled, text)
    split: Callable[[str], list[str]] = compiled.findall
    split_ascii = re.compile(_in_ascii(pattern), re.ASCII).findall
    return lambda text: split_ascii(text) if text.isascii() else split(text)


def compile_pattern(pattern: str) -> Any:
    """Compile a pattern of the `regex` package.

    Raises:
        UserError: The pattern is not a regular expression, or it searches backwards.
        TypeError: The pattern is not a string.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"The pattern is a {type(pattern).__name__}. A string is expected.")
    try:
        pattern.encode("utf-8")  # half a surrogate pair could not be saved
        compiled = regex.compile(PATTERNS.get(pattern, pattern))
    except (
        regex.error, ValueError, TypeError, LookupError, OverflowError, RecursionError, MemoryError,
    ) as error:  # fmt: skip
        raise UserError(
            f"The pattern {pattern[:200]!r} is not a regular expression: {error}.",
            settings={"pattern": "gpt4"},
        ) from error
    if compiled.flags & regex.REVERSE:
        raise UserError(
            f"The pattern {pattern[:200]!r} searches backwards, because of its flag `r`. "
            "A pattern that cuts the text from its beginning is expected.",
            settings={"pattern": "gpt4"},
        )
    return compiled


def _cut(compiled: Any, text: str) -> list[str]:
    """Cut a text into the matches of a pattern and what lies between them."""
    if not compiled.groups:
        matches: list[str] = compiled.findall(text)
        if "" not in matches and sum(map(len, matches)) == len(text):
            return matches
    pieces, done = [], 0
    for found in compiled.finditer(text):
        start, end = found.span()
        if start == end:
            return _cut_at_empty_matches(compiled, text)
        if start > done:
            pieces.append(text[done:start])
        pieces.append(text[start:end])
        done = end
    if done < len(text):
        pieces.append(text[done:])
    return pieces


def _cut_at_empty_matches(compiled: Any, text: str) -> list[str]:
    """Cut like `_cut` by a pattern with empty matches, which end a pretoken where they are.

    After an empty match Python tries the same place again for a longer one. Oniguruma does not, and
    tokenizers runs on Oniguruma.
    """
    pieces, done, at, last_end = [], 0, 0, -1
    while at <= len(text) and (found := compiled.search(text, at)):
        start, end = found.span()
        if start == end == last_end:
            at = end + 1
            continue
        if start > done:
            pieces.append(text[done:start])
        if end > start:
            pieces.append(text[start:end])
        done = at = last_end = end
    if done < len(text):
        pieces.append(text[done:])
    return pieces


def _in_ascii(pattern: str) -> str:
    r"""Replace a pattern's classes of letters and numbers by their ASCII ranges.

    >>> _in_ascii(r" ?\p{L}+|[^\s\p{L}\p{N}]")
    ' ?[A-Za-z]+|[^\\sA-Za-z0-9]'
    """
    for category, ascii_range in ((r"\p{L}", "A-Za-z"), (r"\p{N}", "0-9")):
        alone = re.escape(category) + r"(?=[+{])"  # in a class, no repetition follows
        pattern = re.sub(alone, f"[{ascii_range}]", pattern).replace(category, ascii_range)
    return pattern
