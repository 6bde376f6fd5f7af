"""The adapters of the tokenizer: training on a file, and the class with the course's methods."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from groundup.base.errors import UserError
from groundup.base.files import read_json
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.save import byte_spelling
from groundup.tokenizer.train_bpe import train_bpe

Vocabulary = dict[int, bytes]
Merges = list[tuple[bytes, bytes]]
_CHUNK_CHARACTERS = 2**22


class Tokenizer:
    """A byte-level BPE tokenizer that always recognizes its special tokens.

    Args:
        vocab: The bytes of each token by id.
        merges: Pairs of tokens by rank.
        special_tokens: Names of special tokens. Those that are not in `vocab` get the ids after it.

    Raises:
        UserError: A byte has no token, a merge is not of tokens, or two ids have one token.

    >>> vocab = {i: bytes([i]) for i in range(256)} | {256: b"hi"}
    >>> tokenizer = Tokenizer(vocab, [(b"h", b"i")], ["<|x|>"])
    >>> tokenizer.encode("hi<|x|>"), tokenizer.decode([256, 257])
    ([256, 257], 'hi<|x|>')
    """

    def __init__(
        self,
        vocab: Mapping[int, bytes],
        merges: Sequence[tuple[bytes, bytes]],
        special_tokens: Sequence[str] | None = None,
    ) -> None:
        self.bpe = BPETokenizer.from_bytes(vocab, merges, list(special_tokens or ()))
        """The tokenizer of groundup, which `save` writes for the other commands."""

    @classmethod
    def from_files(
        cls,
        vocab_filepath: str | PathLike[str],
        merges_filepath: str | PathLike[str],
        special_tokens: Sequence[str] | None = None,
    ) -> "Tokenizer":
        """Read GPT-2's files: a JSON table from tokens to ids, and a text file of merges.

        In both, bytes are spelled as GPT-2's printable characters.

        Raises:
            UserError: A file is missing or not in this format.
        """
        byte_of = {letter: byte for byte, letter in enumerate(byte_spelling())}

        def as_bytes(spelled: str, where: object) -> bytes:
            try:
                return bytes(byte_of[letter] for letter in spelled)
            except KeyError as error:
                raise UserError(
                    f"The token {spelled!r} has the character {error}, which spells no byte. "
                    "Tokens as in GPT-2's files are expected.",
                    where=str(where),
                ) from error

        table = read_json(Path(vocab_filepath))
        if not isinstance(table, dict):
            raise UserError("A JSON table of ids is expected.", where=str(vocab_filepath))
        for name, index in table.items():
            if not isinstance(index, int) or isinstance(index, bool) or index < 0:
                raise UserError(
                    f"The id of {name!r} is {index!r}. A whole number of at least 0 is expected.",
                    where=str(vocab_filepath),
                )
        special = set(special_tokens or ())
        vocab = {
            index: name.encode() if name in special else as_bytes(name, vocab_filepath)
            for name, index in table.items()
        }
        merges: Merges = []
        try:
            lines = Path(merges_filepath).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"The merges cannot be read ({error}).", where=str(merges_filepath)
            ) from error
        for number, line in enumerate(lines, 1):
            if not line.strip() or (number == 1 and line.startswith("#version")):
                continue
            parts = line.rstrip("\r").split(" ")
            where = f"{merges_filepath}:{number}"
            if len(parts) != 2:
                raise UserError("Two tokens and a space between them are expected.", where=where)
            merges.append((as_bytes(parts[0], where), as_bytes(parts[1], where)))
        return cls(vocab, merges, special_tokens)

    def encode(self, text: str) -> list[int]:
        """Encode text as ids, special tokens included."""
        return self.bpe.encode(text, allowed_special="all")

    def encode_iterable(self, iterable: Iterable[str]) -> Iterator[int]:
        """Encode pieces of a text, such as an open file, with little memory.

        The ids are those of the joined text, wherever it is cut.
        """
        return self.bpe.encode_iterable(iterable, allowed_special="all")

    def decode(self, ids: Iterable[int]) -> str:
        """Decode ids to text; bytes that are not valid UTF-8 become U+FFFD."""
        return self.bpe.decode(ids)


def get_tokenizer(
    vocab: Mapping[int, bytes],
    merges: Sequence[tuple[bytes, bytes]],
    special_tokens: Sequence[str] | None = None,
) -> Tokenizer:
    """Build a tokenizer; see `Tokenizer`."""
    return Tokenizer(vocab, merges, special_tokens)


def run_train_bpe(
    input_path: str | PathLike[str],
    vocab_size: int,
    special_tokens: Sequence[str],
    **kwargs: Any,
) -> tuple[Vocabulary, Merges]:
    """Train byte-pair encoding on a text file, with GPT-2's pattern.

    Text is never merged with a special token in it. Of pairs with the same count, the greater pair
    of bytes is merged first.

    Args:
        input_path: A text file in UTF-8.
        vocab_size: The largest number of tokens.
        special_tokens: Names of special tokens; they get the first ids, then the 256 bytes follow.
        kwargs: Ignored, such as a number of processes.

    Returns:
        The bytes of each token by id, and the pairs by rank.

    Raises:
        UserError: The vocabulary cannot hold the bytes and special tokens, or the file is empty or
            not readable.
    """
    try:
        trained = train_bpe(
            _parts(Path(input_path), special_tokens),
            vocab_size,
            pattern="gpt2",
            special_tokens=list(special_tokens),
            ties="greatest-bytes",
            min_count=1,
        )
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The file cannot be read: {error}.", where=str(input_path)) from error
    merges = [(trained.token_bytes(a), trained.token_bytes(b)) for a, b in trained.merges]
    tokens = [name.encode("utf-8") for name in special_tokens]
    tokens += [bytes([value]) for value in range(256)]
    tokens += [left + right for left, right in merges]
    return dict(enumerate(tokens)), merges


def _parts(path: Path, special_tokens: Sequence[str]) -> Iterator[str]:
    """Read a file in parts that end with a special token, so that it need not fit in memory."""
    left, longest = "", max(map(len, special_tokens), default=0)
    with path.open(encoding="utf-8", newline="") as file:
        while chunk := file.read(_CHUNK_CHARACTERS):
            searched = max(0, len(left) - longest)
            left += chunk
            found = ((left.rfind(name, searched), name) for name in special_tokens)
            end = max((start + len(name) for start, name in found if start >= 0), default=0)
            if end:
                yield left[:end]
                left = left[end:]
    if left:
        yield left
