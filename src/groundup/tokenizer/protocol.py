"""The interface of all tokenizers."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable


@runtime_checkable
class Tokenizer(Protocol):
    """Encode text as ids and decode them."""

    special_tokens: dict[str, int]

    @property
    def vocab_size(self) -> int:
        """The number of ids, including special tokens."""
        ...

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of everything that decides the ids."""
        ...

    def encode(
        self, text: str, allowed_special: AbstractSet[str] | Literal["all"] = frozenset()
    ) -> list[int]:
        """Encode text as ids."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Decode ids to text."""
        ...

    def token_bytes(self, index: int) -> bytes:
        """Return the bytes of one id."""
        ...

    def save(self, folder: Path | str) -> None:
        """Write the tokenizer folder."""
        ...
