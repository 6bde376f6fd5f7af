"""Encode large amounts of text: the same ids as `encode`, faster and as an array.

Byte-level BPE runs on gigatoken with our merges: by far the fastest library of those compared in
`benchmarks/bench_data.py`, on one core. On first use it is compared with our own encoder on a test
text; if the ids differ, or it cannot run a vocabulary, ours is used and a warning is logged.
"""

import json
import logging
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from groundup.base.errors import UserError
from groundup.text.pieces import cut_into_pieces
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.imported import ImportedTokenizer
from groundup.tokenizer.pretokens import PATTERNS
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.round_trip import CANARY
from groundup.tokenizer.save import TYPED_PATTERN, describe_bpe

_log = logging.getLogger(__name__)

ToIds = Callable[[str], NDArray[np.integer]]

# gigatoken recognizes a pattern by its spelling; this is GPT-4's in tiktoken. In that of Hugging
# Face's files, white space at the end of a text is cut otherwise.
_SPELLING = {
    PATTERNS["gpt4"]: r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s+"
}
_RENEWED_AFTER_CHARACTERS = 2**27
"""The engine caches every distinct pretoken; replacing it regularly keeps memory constant."""
_PIECE_CHARACTERS = 2**16
"""Length of the pieces that the tokenizers library encodes."""
_LARGE_CHARACTERS = 2**22
_BYTES_PER_CHARACTER = 200
"""Memory that the tokenizers library takes for each character of a text, measured."""


def fast_encoder(tokenizer: Tokenizer) -> ToIds:
    """Return a function from text to an array of ids, equal to the tokenizer's own `encode`."""

    def own(text: str) -> NDArray[np.integer]:
        return np.asarray(tokenizer.encode(text), dtype=np.uint32)

    if isinstance(tokenizer, CharacterTokenizer):
        return _through_table(tokenizer, own)
    if isinstance(tokenizer, ImportedTokenizer):
        return _in_pieces(tokenizer, own)
    if not isinstance(tokenizer, BPETokenizer):
        return own
    try:
        fast = _through_gigatoken(tokenizer, own)
        if np.array_equal(fast(CANARY), own(CANARY)):
            return fast
        reason = "the ids differ"
    except (ImportError, RuntimeError, UserError) as error:
        reason = str(error).splitlines()[0]
    _log.warning("gigatoken cannot run this tokenizer (%s): using our own encoder", reason)
    return own


def _through_gigatoken(tokenizer: BPETokenizer, own: ToIds) -> ToIds:
    """Encode with gigatoken, without special tokens: their names in a text are ordinary text.

    Raises:
        ImportError: It is not installed.
        RuntimeError: It does not know the pattern.
        UserError: The tokenizer cannot be described to it.
    """
    from gigatoken import Tokenizer as Engine

    description = describe_bpe(tokenizer)
    description["added_tokens"] = []
    for name in tokenizer.special_tokens:
        description["model"]["vocab"].pop(name, None)
    split = description["pre_tokenizer"]["pretokenizers"][0]
    split["pattern"]["Regex"] = _SPELLING.get(tokenizer.pattern, tokenizer.pattern)
    split.pop(TYPED_PATTERN, None)
    described = json.dumps(description)
    engine = Engine.from_json(described)
    n_characters = 0

    def fast(text: str) -> NDArray[np.integer]:
        nonlocal engine, n_characters
        n_characters += len(text)
        if n_characters > _RENEWED_AFTER_CHARACTERS:
            engine, n_characters = Engine.from_json(described), 0
        try:
            ids: NDArray[np.integer] = engine.encode(text)
        except TypeError:  # the engine does not accept half of a surrogate pair
            return own(text)
        return ids

    return fast


def _in_pieces(tokenizer: ImportedTokenizer, own: ToIds) -> ToIds:
    """Encode piece by piece where that gives the same ids, because it takes much memory."""

    def fast(text: str) -> NDArray[np.integer]:
        parts = [text]
        if tokenizer.cuts_at_pieces:
            parts = [piece.text for piece in cut_into_pieces("", [text], _PIECE_CHARACTERS)]
        if (longest := max(map(len, parts))) > _LARGE_CHARACTERS:
            _log.warning(
                "A text of %.1f million characters is encoded at once, because it has no place "
                "where this tokenizer certainly cuts. This takes about %.1f GB of memory. Smaller "
                "documents take less.",
                longest / 1e6, longest * _BYTES_PER_CHARACTER / 1e9,
            )  # fmt: skip
        return np.concatenate([own(part) for part in parts])

    return fast


def _through_table(tokenizer: CharacterTokenizer, own: ToIds) -> ToIds:
    """Look up every code point in one array."""
    points = [ord(character) for character in tokenizer.characters]
    table = np.full(max(points, default=0) + 2, -1, dtype=np.int64)
    table[points] = np.arange(len(points))

    def fast(text: str) -> NDArray[np.integer]:
        code_points = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")
        ids: NDArray[np.integer] = table[np.minimum(code_points, len(table) - 1)]
        if (ids < 0).any():
            return own(text)  # raises an error that names the character
        return ids

    return fast
