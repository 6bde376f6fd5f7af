"""What every rung of the ladder can do."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back."""

    special_tokens: dict[str, int]

    @property
    def vocab_size(self) -> int:
        """How many ids there are, special tokens included."""
        ...

    @property
    def fingerprint(self) -> str:
        """A SHA-256 of everything that decides the ids."""
        ...

    def encode(
        self, text: str, allowed_special: AbstractSet[str] | Literal["all"] = frozenset()
    ) -> list[int]:
        """Turn text into ids."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids into text."""
        ...

    def token_bytes(self, index: int) -> bytes:
        """Give the bytes of one id."""
        ...

    def save(self, folder: Path | str) -> None:
        """Write the tokenizer folder."""
        ...
