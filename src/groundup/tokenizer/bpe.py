"""Byte-level byte-pair encoding: the tokenizer of GPT-2 and its successors.

Text is cut into pretokens by a pattern (words with their leading space, numbers, punctuation,
white space); each pretoken starts as its UTF-8 bytes, and the earliest learnt pair of neighbours is
merged again and again. No byte is ever lost: `decode(encode(text)) == text`.

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
    """Encode and decode with learnt merges.

    Args:
        merges: Pairs of ids in the order they were learnt; the first one makes id `256`, unless
            `token_table` numbers the tokens otherwise.
        pattern: "gpt2", "gpt4" or a pattern of one's own for the `regex` package.
        special_tokens: Special tokens and their ids.
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
        # A merge's rank decides who goes first; the id it makes is looked up by its bytes.
        self._rank = {pair: rank for rank, pair in enumerate(self.merges)}
        self._made = [self._id_of_bytes[table[a] + table[b]] for a, b in self.merges]
        self._split = splitter(self.pattern)
        self._cache: dict[str, list[int]] = {}

    @property
    def vocab_size(self) -> int:
        """How many ids there are, special tokens included."""
        return len(self.token_table)

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 of everything that decides the ids."""
        parts = [self.pattern, repr(self.merges), repr(sorted(self.special_tokens.items()))]
        return sha256_bytes("\n".join(parts).encode() + b"\0".join(self.token_table))

    def encode(
        self, text: str, allowed_special: AbstractSet[str] | Literal["all"] = frozenset()
    ) -> list[int]:
        """Turn text into ids; the name of a special token is ordinary text unless it is allowed.

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
        """Encode texts one after another, lazily; each text is encoded by itself."""
        for text in texts:
            yield from self.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids into text; bytes that are no UTF-8 show as U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Turn ids into the very bytes."""
        return b"".join(self.token_bytes(index) for index in ids)

    def token_bytes(self, index: int) -> bytes:
        """Give the bytes of one id.

        Raises:
            UserError: There is no such id.
        """
        if not 0 <= index < len(self.token_table):
            raise UserError(f"id {index}", need=f"an id below {self.vocab_size}")
        return self.token_table[index]

    def id_of(self, token: bytes) -> int:
        """Give the id of an ordinary token's bytes.

        Raises:
            KeyError: No token has them.
        """
        return self._id_of_bytes[token]

    def save(self, folder: Path | str) -> None:
        """Write the tokenizer folder: tokenizer.json for machines, vocabulary.txt for the eye."""
        save_bpe(self, Path(folder))

    def _encode_pretoken(self, pretoken: str) -> list[int]:
        known = self._cache.get(pretoken)
        if known is not None:
            return known
        data = pretoken.encode("utf-8", errors="surrogatepass")
        whole = self._id_of_bytes.get(data) if len(data) == 1 else None
        ids = [whole] if whole is not None else self._merge([self._byte_ids[b] for b in data])
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
        """Merge a long pretoken with a heap over a linked list: O(n log n), never quadratic."""
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
                continue  # an entry of a pair that has since changed
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
