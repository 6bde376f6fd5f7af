"""Byte-level byte-pair encoding: the tokenizer of GPT-2 and its successors.

A pattern cuts the text into pretokens (words with their leading space, numbers, punctuation, white
space). Each pretoken starts as its UTF-8 bytes; then the adjacent pair with the lowest rank is
merged, again and again. No byte is ever lost: `decode(encode(text)) == text`.

Source: Sennrich, Haddow and Birch (2016), "Neural Machine Translation of Rare Words with Subword
Units"; Radford et al. (2019) for the byte level and the pattern.
"""

import heapq
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from pathlib import Path
from typing import Literal

from groundup.base.errors import UserError
from groundup.base.files import sha256_bytes
from groundup.tokenizer.pretokens import PATTERNS, splitter
from groundup.tokenizer.round_trip import check_round_trip
from groundup.tokenizer.save import save_bpe
from groundup.tokenizer.special import SPECIAL_TOKENS, cut_at_special
from groundup.tokenizer.stream import encode_chunks, settled_by
from groundup.tokenizer.table import MOST_HOLES, Pair, as_table, derive_table

_CACHED_PRETOKENS = 200_000
_CACHED_IN_STREAM = 1000
_LONG_PRETOKEN = 64


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
        self.pattern = PATTERNS.get(pattern, pattern) if isinstance(pattern, str) else pattern
        self._split = splitter(self.pattern)
        table = derive_table(self.merges) if token_table is None else list(token_table)
        if special_tokens is None:
            special_tokens = {name: len(table) + i for i, name in enumerate(SPECIAL_TOKENS)}
        self.special_tokens = dict(special_tokens)
        self.eos_token: str | None = None
        """The eos_token of the tokenizer_config.json beside the file. None: not known."""
        size = max([len(table) - 1, *self.special_tokens.values()]) + 1
        if min(self.special_tokens.values(), default=0) < 0 or size > 2 * len(table) + MOST_HOLES:
            raise UserError(
                f"The ids of the special tokens are {sorted(self.special_tokens.values())[:9]}. "
                f"Ids from 0 on, near those of the {len(table)} other tokens, are expected.",
            )
        table += [b""] * (size - len(table))
        for name, index in self.special_tokens.items():
            table[index] = name.encode("utf-8")
        self.token_table = table
        ordinary = set(range(len(table))) - set(self.special_tokens.values())
        self._id_of_bytes = {table[index]: index for index in sorted(ordinary)}
        if missing := [value for value in range(256) if bytes([value]) not in self._id_of_bytes]:
            raise UserError(
                f"The vocabulary has no token for {len(missing)} of the 256 bytes, first for byte "
                f"{missing[0]} ({bytes(missing[:1])!r}). The vocabulary of a byte-level BPE "
                "tokenizer is expected.",
            )
        self._byte_ids = [self._id_of_bytes[bytes([value])] for value in range(256)]
        # A merge's rank decides the order; the id it makes is looked up by its bytes.
        self._rank = {pair: rank for rank, pair in enumerate(self.merges)}
        self._made = [self._id_made(rank) for rank in range(len(self.merges))]
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def from_bytes(
        cls,
        vocab: Mapping[int, bytes],
        merges: Iterable[tuple[bytes, bytes]],
        special_tokens: Iterable[str] | None = None,
        *,
        pattern: str = "gpt2",
    ) -> "BPETokenizer":
        """Build a tokenizer from tokens and merges as bytes, as courses and tiktoken hold them.

        Args:
            vocab: The bytes of each token by id; the ids stay as they are.
            merges: Pairs of tokens by rank.
            special_tokens: Names of special tokens. One that is in `vocab` keeps its id, the
                others get the ids after the last one. None: no special tokens.
            pattern: "gpt2", "gpt4" or a regular expression for the `regex` package.

        Raises:
            UserError: A byte has no token, a merge is not of tokens, or two ids have one token.

        >>> vocab = {i: bytes([i]) for i in range(256)} | {256: b"hi"}
        >>> BPETokenizer.from_bytes(vocab, [(b"h", b"i")], ["<|x|>"]).encode("hi<|x|>", "all")
        [256, 257]
        """
        table = as_table(vocab)
        id_of = {token: index for index, token in enumerate(table) if token}
        pairs: list[Pair] = []
        for rank, pair in enumerate(merges):
            if len(pair) != 2 or not all(part in id_of for part in pair):
                raise UserError(
                    f"Merge {rank} is {pair!r}. A pair of tokens of the vocabulary is expected.",
                )
            pairs.append((id_of[pair[0]], id_of[pair[1]]))
        special: dict[str, int] = {}
        end = len(table)
        for name in special_tokens or ():
            if name in special:
                continue
            special[name] = id_of.get(name.encode("utf-8"), end)
            end = max(end, special[name] + 1)
        made = cls(pairs, pattern=pattern, special_tokens=special, token_table=table)
        check_round_trip(made)
        return made

    def _id_made(self, rank: int) -> int:
        table, pair = self.token_table, self.merges[rank]
        if len(pair) == 2 and all(0 <= part < len(table) for part in pair):
            made = self._id_of_bytes.get(table[pair[0]] + table[pair[1]])
            if made is not None:
                return made
            problem = f"makes {table[pair[0]] + table[pair[1]]!r}, which is not an ordinary token"
        else:
            problem = f"is {pair!r}, which is not a pair of ids below {len(table)}"
        raise UserError(f"Merge {rank} {problem}. A merge of two tokens into a third is expected.")

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

    def encode_iterable(
        self,
        chunks: Iterable[str],
        allowed_special: AbstractSet[str] | Literal["all"] = frozenset(),
    ) -> Iterator[int]:
        """Encode the chunks of one text lazily: the ids of `encode` for the joined text.

        Memory stays small for a text of any size; see `groundup.tokenizer.stream` for the
        exceptions.
        """
        cache: dict[str, list[int]] = {}

        def encode(pretoken: str) -> list[int]:
            ids = self._cache.get(pretoken) or cache.get(pretoken)
            if ids is None:
                ids = self._merge_pretoken(pretoken)
                if len(cache) >= _CACHED_IN_STREAM:
                    cache.clear()
                if len(pretoken) <= _LONG_PRETOKEN:
                    cache[pretoken] = ids
            return ids

        return encode_chunks(
            chunks,
            self.special_tokens,
            allowed_special,
            cut=self._split,
            cut_settled=settled_by(self.pattern),
            encode=encode,
        )

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
        if not 0 <= operator.index(index) < len(self.token_table):
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

    def merge_bytes(self, pretoken: bytes) -> list[int]:
        """Encode the bytes of one pretoken as ids."""
        return self._merge([self._byte_ids[byte] for byte in pretoken])

    def save(self, folder: Path | str) -> None:
        """Write the tokenizer folder: tokenizer.json, and vocabulary.txt for people to read."""
        save_bpe(self, Path(folder))

    def _encode_pretoken(self, pretoken: str) -> list[int]:
        known = self._cache.get(pretoken)
        if known is not None:
            return known
        ids = self._merge_pretoken(pretoken)
        if len(self._cache) >= _CACHED_PRETOKENS:
            self._cache.clear()
        if len(pretoken) <= _LONG_PRETOKEN:
            self._cache[pretoken] = ids
        return ids

    def _merge_pretoken(self, pretoken: str) -> list[int]:
        return self.merge_bytes(pretoken.encode("utf-8", errors="surrogatepass"))

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
