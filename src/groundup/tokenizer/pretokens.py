r"""Cut text into pretokens, inside which BPE merges: words, numbers, punctuation, white space.

>>> splitter("gpt4")("It's 12345!\n")
['It', "'s", ' ', '123', '45', '!\n']
"""

import re
from collections.abc import Callable

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

    ASCII text is cut by Python's own `re`, which is more than twice as fast.
    """
    pattern = PATTERNS.get(pattern, pattern)
    try:
        split: Callable[[str], list[str]] = regex.compile(pattern).findall
    except regex.error as error:
        raise UserError(
            f"The pattern {pattern!r} is not a regular expression: {error}.",
            settings={"pattern": "gpt4"},
        ) from error
    if pattern not in PATTERNS.values():
        return split
    split_ascii = re.compile(_in_ascii(pattern), re.ASCII).findall
    return lambda text: split_ascii(text) if text.isascii() else split(text)


def _in_ascii(pattern: str) -> str:
    r"""Replace a pattern's classes of letters and numbers by their ASCII ranges.

    >>> _in_ascii(r" ?\p{L}+|[^\s\p{L}\p{N}]")
    ' ?[A-Za-z]+|[^\\sA-Za-z0-9]'
    """
    for category, ascii_range in ((r"\p{L}", "A-Za-z"), (r"\p{N}", "0-9")):
        alone = re.escape(category) + r"(?=[+{])"  # in a class, no repetition follows
        pattern = re.sub(alone, f"[{ascii_range}]", pattern).replace(category, ascii_range)
    return pattern
