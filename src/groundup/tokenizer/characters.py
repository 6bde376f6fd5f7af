"""The simplest tokenizer: every character is a token."""

import operator
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from pathlib import Path
from typing import Literal

from groundup.base.errors import UserError
from groundup.base.files import sha256_bytes
from groundup.tokenizer.save import save_list
from groundup.tokenizer.special import SPECIAL_TOKENS, cut_at_special
from groundup.tokenizer.stream import encode_chunks


class CharacterTokenizer:
    """One id per character of the training text; any other character is an error.

    >>> tokenizer = CharacterTokenizer.from_text("abba", special_tokens=())
    >>> tokenizer.encode("bab"), tokenizer.decode([1, 0])
    ([1, 0, 1], 'ba')
    """

    def __init__(
        self, characters: Iterable[str], *, special_tokens: Iterable[str] = SPECIAL_TOKENS
    ) -> None:
        self.characters = list(characters)
        if any(len(character) != 1 for character in self.characters):
            raise UserError(
                f"{next(c for c in self.characters if len(c) != 1)!r} is among the characters. "
                "A single character each is expected.",
            )
        first = len(self.characters)
        self.special_tokens = {name: first + i for i, name in enumerate(special_tokens)}
        self._id_of = {character: index for index, character in enumerate(self.characters)}
        self._names = [*self.characters, *self.special_tokens]

    @classmethod
    def from_text(
        cls, text: str, *, special_tokens: Iterable[str] = SPECIAL_TOKENS
    ) -> "CharacterTokenizer":
        """Use the characters of a text, in code-point order."""
        return cls(sorted(set(text)), special_tokens=special_tokens)

    @property
    def vocab_size(self) -> int:
        """The number of ids, including special tokens."""
        return len(self._names)

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of everything that decides the ids."""
        return sha256_bytes("\n".join(["characters", *self._names]).encode())

    def encode(
        self, text: str, allowed_special: AbstractSet[str] | Literal["all"] = frozenset()
    ) -> list[int]:
        """Encode text as ids; the name of a special token is ordinary text unless it is allowed.

        Raises:
            UserError: A character was not in the training text.
        """
        ids: list[int] = []
        for part, special in cut_at_special(text, self.special_tokens, allowed_special):
            if special is not None:
                ids.append(special)
                continue
            ids += self._encode_part(part)
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
            cut_settled=lambda text: [text],
            encode=self._encode_part,
        )

    def _encode_part(self, part: str) -> list[int]:
        try:
            return [self._id_of[character] for character in part]
        except KeyError as error:
            raise UserError(
                f"The character {error.args[0]!r} was not in the training text. "
                "A character tokenizer has no id for it; byte-level BPE encodes any text.",
                command="groundup train-tokenizer --kind bpe",
            ) from error

    def decode(self, ids: Iterable[int]) -> str:
        """Decode ids to text."""
        return "".join(name_of(index, self._names) for index in ids)

    def token_bytes(self, index: int) -> bytes:
        """Return the bytes of one id."""
        return name_of(index, self._names).encode("utf-8", errors="surrogatepass")

    def save(self, folder: Path | str) -> None:
        """Write the tokenizer folder."""
        save_list(Path(folder), "characters", self.characters, list(self.special_tokens))


def name_of(index: int, names: Sequence[str]) -> str:
    """Return the text of an id.

    Raises:
        UserError: There is no such id.
    """
    if not 0 <= operator.index(index) < len(names):
        raise UserError(
            f"There is no token with id {index}. An id from 0 to {len(names) - 1} is expected.",
        )
    return names[index]
