r"""A word tokenizer: words and punctuation marks, cut by a regular expression.

White space is dropped, and a word that was not in the training text becomes `<|unk|>`, or is an
error if there is no such token. Byte-level BPE avoids both losses.
"""

import re
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from functools import cached_property
from pathlib import Path
from typing import Literal

from groundup.base.errors import UserError
from groundup.base.files import sha256_bytes
from groundup.tokenizer.characters import name_of
from groundup.tokenizer.save import save_list
from groundup.tokenizer.special import END_OF_TEXT, cut_at_special
from groundup.tokenizer.stream import encode_chunks

UNKNOWN = "<|unk|>"
_CUT = re.compile(r'([,.:;?_!"()\']|--|\s)')
_LAST_DELIMITER = re.compile(r'.*[,.:;?_!"()\'\s]', re.DOTALL)
_BEFORE_PUNCTUATION = re.compile(r'\s+([,.:;?!"()\'])')


def split_words(text: str) -> list[str]:
    """Cut a text into words and punctuation marks; white space is dropped.

    >>> split_words("Hello, world. Is this-- a test?")
    ['Hello', ',', 'world', '.', 'Is', 'this', '--', 'a', 'test', '?']
    """
    return [word for part in _CUT.split(text) if (word := part.strip())]


def _to_last_delimiter(text: str) -> list[str]:
    """Return the text up to its last delimiter of one character, which always ends a word."""
    found = _LAST_DELIMITER.match(text)
    return [found.group()] if found else []


class WordTokenizer:
    """One id per word of the training text, and one for all others.

    >>> tokenizer = WordTokenizer.from_text("a cat, a mat")
    >>> tokenizer.decode(tokenizer.encode("a dog, a mat"))
    'a <|unk|>, a mat'
    """

    def __init__(
        self, words: Iterable[str], *, special_tokens: Iterable[str] = (END_OF_TEXT, UNKNOWN)
    ) -> None:
        self.words = list(words)
        first = len(self.words)
        self.special_tokens = {name: first + i for i, name in enumerate(special_tokens)}
        self._names = [*self.words, *self.special_tokens]
        self._id_of = {word: index for index, word in enumerate(self.words)}
        self.unknown_id = self.special_tokens.get(UNKNOWN)

    @classmethod
    def from_text(
        cls, text: str, *, special_tokens: Iterable[str] = (END_OF_TEXT, UNKNOWN)
    ) -> "WordTokenizer":
        """Use the words of a text, in code-point order; names of special tokens are no words."""
        special_tokens = list(special_tokens)
        words = set(split_words(text)).difference(special_tokens)
        return cls(sorted(words), special_tokens=special_tokens)

    @property
    def vocab_size(self) -> int:
        """The number of ids, including special tokens."""
        return len(self._names)

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of everything that decides the ids."""
        return sha256_bytes("\n".join(["words", *self._names]).encode())

    def encode(
        self, text: str, allowed_special: AbstractSet[str] | Literal["all"] = frozenset()
    ) -> list[int]:
        """Encode text as ids; unknown words become `<|unk|>`.

        Raises:
            UserError: A word is unknown, and there is no `<|unk|>`.
        """
        ids: list[int] = []
        for part, special in cut_at_special(text, self.special_tokens, allowed_special):
            if special is not None:
                ids.append(special)
            else:
                ids += map(self._id_of_word, split_words(part))
        return ids

    def encode_iterable(
        self,
        chunks: Iterable[str],
        allowed_special: AbstractSet[str] | Literal["all"] = frozenset(),
    ) -> Iterator[int]:
        """Encode the chunks of one text lazily: the ids of `encode` for the joined text."""
        return encode_chunks(
            chunks,
            self.special_tokens,
            allowed_special,
            cut=lambda text: [text],
            cut_settled=_to_last_delimiter,
            encode=lambda text: map(self._id_of_word, split_words(text)),
        )

    def _id_of_word(self, word: str) -> int:
        index = self._id_of.get(word, self.unknown_id)
        if index is None:
            raise UserError(
                f"The word {word!r} was not in the training text, and this tokenizer has no "
                f"special token {UNKNOWN} for such words. Byte-level BPE encodes any text.",
                settings={"special_tokens": (END_OF_TEXT, UNKNOWN)},
            )
        return index

    def decode(self, ids: Iterable[int]) -> str:
        """Decode ids to text, with one space between words and none before punctuation."""
        return _BEFORE_PUNCTUATION.sub(
            r"\1", " ".join(name_of(index, self._names) for index in ids)
        )

    def token_bytes(self, index: int) -> bytes:
        """Return the bytes of one id, without the white space that was dropped."""
        return name_of(index, self._names).encode("utf-8", errors="surrogatepass")

    def save(self, folder: Path | str) -> None:
        """Write the tokenizer folder."""
        save_list(Path(folder), "words", self.words, list(self.special_tokens))
