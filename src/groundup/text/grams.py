"""Sets of n-grams, as sparse rows, and the folding of a text before it is compared.

The columns of a matrix of grams are ordered by frequency, the rarest first, so that the first
entries of a row are those that the fewest other rows share.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray
from scipy import sparse

Grams = Any
"""A scipy.sparse.csr_matrix of ones, (rows, grams), with sorted indices."""

_DIGIT = regex.compile(r"\p{Nd}")
_SEPARATORS = regex.compile(r"[\p{P}\p{Sc}\p{Z}\p{C}\s]+")
_SPACE = regex.compile(r"[\p{Z}\p{C}\s]+")
_PADDING = "\0"
_UNSPACED = (  # Thai, Lao, Tibetan, Burmese, Khmer, kana, Chinese characters
    r"\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    r"\uf900-\ufaff\U00020000-\U0003ffff"
)
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]")
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")


def fold(text: str, *, fold_digits: bool = True) -> str:
    """Fold what does not make two texts different: case, punctuation, white space and digits.

    Currency signs are folded as punctuation is. A text of nothing but punctuation keeps it.

    Args:
        text: The text.
        fold_digits: Replace every digit by 0, so that texts that differ in a phone number or an
            amount are equal.

    >>> fold("WIN £500 now!!  Call 0871-12"), fold("Win £500 now", fold_digits=False), fold(":-)")
    ('win 000 now call 0000 00', 'win 500 now', ':-)')
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    if fold_digits:
        text = _DIGIT.sub("0", text)
    folded: str = _SEPARATORS.sub(" ", text).strip() or _SPACE.sub(" ", text).strip()
    return folded


def words_of(text: str) -> list[str]:
    """Return the words of a text: what stands between white space.

    In scripts that put no spaces between words, each character counts as a word.

    >>> words_of("one  two, three"), words_of("用 Python 写")
    (['one', 'two,', 'three'], ['用', 'Python', '写'])
    """
    if text.isascii() or not _IS_UNSPACED.search(text):
        return text.split()
    return _WORD.findall(text)


def character_grams(texts: Sequence[str], n: int) -> Grams:
    """Return the sets of character n-grams; that of a text shorter than n is the text itself."""
    padded = [text.ljust(n, _PADDING) for text in texts]
    code_points = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32)
    _, symbols = np.unique(code_points, return_inverse=True)
    return _gram_rows(symbols, list(map(len, padded)), n)


def word_grams(texts: Iterable[Sequence[str]], n: int) -> Grams:
    """Return the sets of n-grams of words; a text of fewer than n words has none."""
    numbers: dict[str, int] = {}
    symbols: list[int] = []
    lengths: list[int] = []
    for words in texts:
        symbols += [numbers.setdefault(word, len(numbers)) for word in words]
        lengths.append(len(words))
    return _gram_rows(np.array(symbols, dtype=np.int64), lengths, n)


def _gram_rows(symbols: NDArray[np.int64], lengths: Sequence[int], n: int) -> Grams:
    """Build the rows of grams from the symbols of all texts, which are numbers from 0."""
    sizes = np.array(lengths, dtype=np.int64)
    row = np.repeat(np.arange(len(sizes)), sizes)
    is_start = np.arange(len(symbols)) + n <= np.repeat(np.cumsum(sizes), sizes)
    row, grams = row[is_start], _numbered(symbols, n)[is_start[: max(0, len(symbols) - n + 1)]]
    names, column = np.unique(grams, return_inverse=True)
    unique = np.unique(row * len(names) + column)
    row, column = np.divmod(unique, max(1, len(names)))
    by_frequency = np.argsort(np.bincount(column, minlength=len(names)), kind="stable")
    rank = np.empty_like(by_frequency)
    rank[by_frequency] = np.arange(len(names))
    ones = np.ones(len(unique), dtype=np.int32)
    rows = sparse.csr_matrix((ones, (row, rank[column])), shape=(len(sizes), len(names)))
    rows.sort_indices()
    return rows


def _numbered(symbols: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Give every n-gram of a sequence a number: equal grams, and only these, have the same."""
    n_symbols = int(symbols.max(initial=0)) + 1
    numbers, n_numbers = symbols.astype(np.int64), n_symbols
    for k in range(1, n):
        if n_numbers * n_symbols >= 2**62:  # too many for an integer: number those that occur
            names, numbers = np.unique(numbers, return_inverse=True)
            n_numbers = len(names)
        numbers = numbers[:-1] * n_symbols + symbols[k:]
        n_numbers *= n_symbols
    return numbers
