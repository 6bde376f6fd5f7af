"""The word tokenizers of chapter 2. `groundup.WordTokenizer` does the same and can be saved."""

import re
from collections.abc import Iterable, Mapping

from groundup.base.errors import UserError
from groundup.tokenizer.words import split_words


class UnknownWordError(UserError, KeyError):
    """A UserError about a word outside the vocabulary; `except KeyError` catches it too."""

    __str__ = Exception.__str__


class SimpleTokenizerV1:
    """Words and punctuation marks as ids; a word outside the vocabulary is an error.

    >>> tokenizer = SimpleTokenizerV1({",": 0, "Hello": 1, "world": 2})
    >>> tokenizer.encode("Hello, world"), tokenizer.decode([1, 0, 2])
    ([1, 0, 2], 'Hello, world')
    """

    _before_punctuation = re.compile(r"""\s+([,.?!"()'])""")

    def __init__(self, vocab: Mapping[str, int]) -> None:
        self.str_to_int = vocab
        self.int_to_str = {index: word for word, index in vocab.items()}

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text.

        Raises:
            UserError: A word is not in the vocabulary.
        """
        return [self._id(word) for word in split_words(text)]

    def _id(self, word: str) -> int:
        if word not in self.str_to_int:
            raise UnknownWordError(
                f"The word {word!r} is not in the vocabulary. SimpleTokenizerV2 replaces such words"
                " by <|unk|>."
            )
        return self.str_to_int[word]

    def decode(self, ids: Iterable[int]) -> str:
        """Join the words of ids by spaces, without a space before punctuation."""
        text = " ".join(self.int_to_str[index] for index in ids)
        return self._before_punctuation.sub(r"\1", text)


class SimpleTokenizerV2(SimpleTokenizerV1):
    """The same with `<|unk|>`, which must be in the vocabulary, for words outside it.

    >>> tokenizer = SimpleTokenizerV2({"a": 0, "tea": 1, "<|unk|>": 2})
    >>> tokenizer.decode(tokenizer.encode("a palace tea"))
    'a <|unk|> tea'
    """

    _before_punctuation = re.compile(r"""\s+([,.:;?!"()'])""")

    def _id(self, word: str) -> int:
        return super()._id(word if word in self.str_to_int else "<|unk|>")
