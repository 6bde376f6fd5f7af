"""Byte-level byte-pair encoding: the tokenizer of GPT-2 and its successors.

A pattern cuts the text into pretokens (words with their leading space, numbers, punctuation, white
space). Each pretoken starts as its UTF-8 bytes; then the adjacent pair with the lowest rank is
merged, again and again. No byte is ever lost: `decode(encode(text)) == text`.

Source: Sennrich, Haddow and Birch (2016), "Neural Machine Translation of Rare Words with Subword
Units"; Radford et al. (2019) for the byte level and the pattern.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from pathlib import Path
from typing import Literal

from groundup.base.errors import UserError
from groundup.base.files import sha256_bytes
from groundup.tokenizer.pretokens import PATTERNS, splitter
from groundup.tokenizer.save import save_bpe
from groundup.tokenizer.special import SPECIAL_TOKENS, cut_at_special

_CACHED_PRETOKENS = 200_000
_LONG_PRETOKEN = 64

Pair = tuple[int, int]


class BPETokenizer:
    """Encode and decode with trained merges.

    Args:
        merges: Pairs of ids by rank; the first one makes id `256`, unless `token_table` numbers
            the tokens differently.
        pattern: "gpt2", "gpt4" or a regular expression for the `regex` package.
        special_tokens: Special tokens and their ids; None adds the default ones.
        token_table: The bytes of every ordinary token by id; None derives them from the merges.

    >>> tokenizer = BPETokenizer([(104, 105)], special_tokens={"<|endoftext|>": 257})
    >>> tokenizer.encode("hi, hi")
    [256, 44, 32, 256]
    """

    def __init__(
        self,
        merges: Sequence[Pair],
        *,
        pattern: str = "gpt4",
        special_tokens: dict[str, int] | None = None,
        token_table: Sequence[bytes] | None = None,
    ) -> None:
        self.merges = list(merges)
        self.pattern = PATTERNS.get(pattern, pattern)
        if token_table is None:
            table = [bytes([value]) for value in range(256)]
            for left, right in self.merges:
                table.append(table[left] + table[right])
        else:
            table = list(token_table)
        if special_tokens is None:
            special_tokens = {name: len(table) + i for i, name in enumerate(SPECIAL_TOKENS)}
        self.special_tokens = dict(special_tokens)
        table += [b""] * (max([-1, *special_tokens.values()]) + 1 - len(table))
        for name, index in special_tokens.items():
            table[index] = name.encode("utf-8")
        self.token_table = table
        ordinary = set(range(len(table))) - set(special_tokens.values())
        self._id_of_bytes = {table[index]: index for index in sorted(ordinary)}
        self._byte_ids = [self._id_of_bytes[bytes([value])] for value in range(256)]
        # A merge's rank decides the order; the id it makes is looked up by its bytes.
        self._rank = {pair: rank for rank, pair in enumerate(self.merges)}
        self._made = [self._id_of_bytes[table[a] + table[b]] for a, b in self.merges]
        self._split = splitter(self.pattern)
        self._cache: dict[str, list[int]] = {}

    @property
    def vocab_size(self) -> int:
        """The number of ids, including special tokens."""
        return len(self.token_table)

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of everything that decides the ids."""
        parts = [self.pattern, repr(self.merges), repr(sorted(self.special_tokens.items()))]
        return sha256_bytes("\n".join(parts).encode() + b"\0".join(self.token_table))

    def encode(
        self, text: str, allowed_special: AbstractSet[str] | Literal["all"] = frozenset()
    ) -> list[int]:
        """Encode text as ids; the name of a special token is ordinary text unless it is allowed.

        Raises:
            UserError: A token is allowed that this tokenizer does not have.
        """
        ids: list[int] = []
        for part, special in cut_at_special(text, self.special_tokens, allowed_special):
            if special is not None:
                ids.append(special)
                continue
            for pretoken in self._split(part):
                ids += self._encode_pretoken(pretoken)
        return ids

    def encode_iterable(self, texts: Iterable[str]) -> Iterator[int]:
        """Encode texts one after another, lazily; each text is encoded separately."""
        for text in texts:
            yield from self.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Decode ids to text; bytes that are not valid UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Decode ids to the exact bytes."""
        return b"".join(self.token_bytes(index) for index in ids)

    def token_bytes(self, index: int) -> bytes:
        """Return the bytes of one id.

        Raises:
            UserError: There is no such id.
        """
        if not 0 <= index < len(self.token_table):
            raise UserError(
                f"There is no token with id {index}. An id from 0 to {self.vocab_size - 1} is "
                "expected.",
            )
        return self.token_table[index]

    def id_of(self, token: bytes) -> int:
        """Return the id of an ordinary token.

        Raises:
            KeyError: No token has these bytes.
        """
        return self._id_of_bytes[token]

    def save(self, folder: Path | str) -> None:
        """Write the tokenizer folder: tokenizer.json, and vocabulary.txt for people to read."""
        save_bpe(self, Path(folder))

    def _encode_pretoken(self, pretoken: str) -> list[int]:
        known = self._cache.get(pretoken)
        if known is not None:
            return known
        data = pretoken.encode("utf-8", errors="surrogatepass")
        ids = self._merge([self._byte_ids[byte] for byte in data])
        if len(self._cache) >= _CACHED_PRETOKENS:
            self._cache.clear()
        if len(data) <= _LONG_PRETOKEN:
            self._cache[pretoken] = ids
        return ids

    def _merge(self, ids: list[int]) -> list[int]:
        if len(ids) > _LONG_PRETOKEN:
            return self._merge_long(ids)
        rank, never = self._rank, len(self.merges)
        while len(ids) > 1:
            best, at = never, -1
            for i in range(len(ids) - 1):
                r = rank.get((ids[i], ids[i + 1]), never)
                if r < best:
                    best, at = r, i
            if at < 0:
                break
            ids[at : at + 2] = [self._made[best]]
        return ids

    def _merge_long(self, ids: list[int]) -> list[int]:
        """Merge a long pretoken with a heap over a linked list, in O(n log n)."""
        n = len(ids)
        after, before = list(range(1, n + 1)), list(range(-1, n - 1))
        heap = [
            (self._rank[pair], i)
            for i, pair in enumerate(zip(ids, ids[1:], strict=False))
            if pair in self._rank
        ]
        heapq.heapify(heap)
        gone = [False] * n
        while heap:
            r, i = heapq.heappop(heap)
            j = after[i]
            if gone[i] or j >= n or self.merges[r] != (ids[i], ids[j]):
                continue  # this pair has changed since it was pushed
            ids[i], gone[j] = self._made[r], True
            after[i] = after[j]
            if after[i] < n:
                before[after[i]] = i
            for left in (before[i], i):
                right = after[left] if left >= 0 else n
                if left >= 0 and right < n:
                    new = self._rank.get((ids[left], ids[right]))
                    if new is not None:
                        heapq.heappush(heap, (new, left))
        return [index for index, dead in zip(ids, gone, strict=True) if not dead]
