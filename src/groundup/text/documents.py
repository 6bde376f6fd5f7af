"""A document is a text with a name; the only changes to its text are those of `clean`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from groundup.base.files import sha256_bytes
from groundup.text.pieces import Piece


@dataclass(frozen=True)
class Document:
    """A text with a name.

    >>> Document("a", "Grüße").n_bytes
    7
    """

    name: str
    text: str

    @property
    def n_bytes(self) -> int:
        """The size of its text in UTF-8."""
        return len(self.text.encode("utf-8"))

    @property
    def sha256(self) -> str:
        """The SHA-256 of its text in UTF-8."""
        return sha256_bytes(self.text.encode("utf-8"))


def clean(text: str) -> str:
    r"""Convert all line ends to line feeds and remove a byte-order mark at the start.

    >>> clean("\ufeffone\r\ntwo\rthree")
    'one\ntwo\nthree'
    """
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def join_pieces(pieces: Iterable[Piece]) -> Iterator[Document]:
    """Join the pieces of each document."""
    parts: list[str] = []
    for piece in pieces:
        parts.append(piece.text)
        if piece.is_last:
            yield Document(piece.name, "".join(parts))
            parts = []
