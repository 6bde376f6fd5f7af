"""From much text to ids, fast: the same ids as `encode`, from a faster engine, as an array.

Byte-level BPE runs on tiktoken's engine, given our merges: measured beside the others in
`benchmarks/bench_data.py`. It leaves Python while it works, so threads share all cores. The first
use holds it against our own encoder on a canary text; if an id differs, ours is used and said so.
"""

import logging
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.protocol import Tokenizer

log = logging.getLogger(__name__)

ToIds = Callable[[str], NDArray[np.integer]]

_CANARY = (
    "The cat's 12345 hats aren't HERE'S;  two  spaces,\ttabs\t\t\n\n\n lines \r\n and trailing \n"
    " naïve Straße ДОМ дом 日本語の文 한국어 العربية हिन्दी ไทย ½ ² ٣٤ \u00a0\u2009\u3000 😀👩‍👩‍👧 "
    "x=3.14159; f(a,b)->c !!! ... <|endoftext|> snake_case camelCase aaaaaaaaaaaaaaaaaaa \0\x7f  "
)


def fast_encoder(tokenizer: Tokenizer) -> ToIds:
    """Give a function from text to an array of ids, equal to the tokenizer's own `encode`."""

    def own(text: str) -> NDArray[np.integer]:
        return np.asarray(tokenizer.encode(text), dtype=np.uint32)

    if isinstance(tokenizer, BPETokenizer):
        fast = _through_tiktoken(tokenizer, own)
    elif isinstance(tokenizer, CharacterTokenizer):
        return _through_table(tokenizer, own)
    else:
        return own
    if np.array_equal(fast(_CANARY), own(_CANARY)):
        return fast
    log.warning("this vocabulary cannot run on tiktoken's engine with equal ids: our own is used")
    return own


def _through_tiktoken(tokenizer: BPETokenizer, own: ToIds) -> ToIds:
    """Give tiktoken's engine the merges in the order they were learnt, and map its ids to ours."""
    from tiktoken import Encoding

    # The engine ranks a merge by the id it makes, so ids go up with age: bytes first, then merges.
    table = tokenizer.token_table
    by_age = [bytes([value]) for value in range(256)]
    by_age += [table[left] + table[right] for left, right in tokenizer.merges]
    ranks: dict[bytes, int] = {}
    for token in by_age:
        ranks.setdefault(token, len(ranks))
    engine = Encoding(
        tokenizer.fingerprint, pat_str=tokenizer.pattern, mergeable_ranks=ranks, special_tokens={}
    )
    to_ours = np.array([tokenizer.id_of(token) for token in ranks], dtype=np.uint32)
    same = bool((to_ours == np.arange(len(to_ours))).all())

    def fast(text: str) -> NDArray[np.integer]:
        if not text.isascii():
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:  # half a surrogate pair: the engine would replace it
                return own(text)
        ids = engine.encode_to_numpy(text, disallowed_special=())
        return ids if same else to_ours[ids]

    return fast


def _through_table(tokenizer: CharacterTokenizer, own: ToIds) -> ToIds:
    """Look every code point up in one array."""
    points = [ord(character) for character in tokenizer.characters]
    table = np.full(max(points, default=0) + 2, -1, dtype=np.int64)
    table[points] = np.arange(len(points))

    def fast(text: str) -> NDArray[np.integer]:
        code_points = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")
        ids: NDArray[np.integer] = table[np.minimum(code_points, len(table) - 1)]
        if (ids < 0).any():
            return own(text)  # names the character that has no id
        return ids

    return fast
