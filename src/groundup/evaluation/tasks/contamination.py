"""Find the items of a task that occur in the training set: shared runs of n words.

The training set is read once, in blocks, so that memory depends on the items only. Words are
compared without case and punctuation. A match by hash is confirmed word by word.

Source: "Language Models are Few-Shot Learners" (Brown et al., 2020), appendix C, with n = 13.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundup.base.copies import RunIndex, hash_runs
from groundup.base.errors import UsageError, UserError
from groundup.data.manifest import is_store
from groundup.data.store import TokenStore
from groundup.text.corpus import corpus_file, read_corpus_pieces
from groundup.tokenizer.protocol import Tokenizer

_WORD = re.compile(r"\w+")
_BLOCK_TOKENS, _BLOCK_WORDS = 2**18, 2**18


@dataclass(frozen=True, kw_only=True)
class Contamination:
    """Which items occur in the training set."""

    is_found: tuple[bool, ...]
    """For each item."""
    n_short: int
    """Number of items with fewer than n words, which cannot be found."""
    n_words: int
    """About the number of words of the training set."""

    @property
    def n_found(self) -> int:
        """Number of items that occur in it."""
        return sum(self.is_found)


def words_of(text: str) -> list[str]:
    """Return the words of a text without case and punctuation.

    >>> words_of("It's 12:30, isn't it?")
    ['it', 's', '12', '30', 'isn', 't', 'it']
    """
    return _WORD.findall(text.casefold())


def find_contamination(
    texts: Sequence[str],
    folders: Sequence[Path],
    *,
    n: int = 13,
    tokenizer: Tokenizer | None = None,
    on_words: Callable[[int], None] | None = None,
) -> Contamination:
    """Find the texts that have n consecutive words in common with the training set.

    Args:
        texts: The texts to search for, one per item.
        folders: The data folders of the training set, each with a corpus or a token store.
        n: Number of words.
        tokenizer: Decodes the token store where there is no corpus.
        on_words: Called with the number of words read so far.

    Raises:
        UsageError: There is neither a corpus, nor a token store that the tokenizer decodes.
    """
    own = [words_of(text) for text in texts]
    wanted: dict[tuple[str, ...], list[int]] = {}
    for place, words in enumerate(own):
        for start in range(len(words) - n + 1):
            wanted.setdefault(tuple(words[start : start + n]), []).append(place)
    # Words are numbered; the training set's other words are all 0, which no item has.
    numbers = {word: i for i, word in enumerate(sorted({w for words in own for w in words}), 1)}
    runs = [[numbers[word] for word in run] for run in wanted]
    hashes = [hash_runs(np.array(run), n) for run in runs]
    index = RunIndex(np.concatenate(hashes) if hashes else np.zeros(0, dtype=np.uint64))
    is_found = [False] * len(texts)
    n_words = 0
    for block in _blocks(folders, tokenizer, n):
        n_words += len(block)
        ids: NDArray[np.int64] = np.fromiter((numbers.get(w, 0) for w in block), dtype=np.int64)
        for start in index.find(hash_runs(ids, n)).tolist():
            for item in wanted.get(tuple(block[start : start + n]), ()):
                is_found[item] = True
        if on_words is not None:
            on_words(n_words)
    return Contamination(
        is_found=tuple(is_found), n_short=sum(len(words) < n for words in own), n_words=n_words
    )


def _blocks(folders: Sequence[Path], tokenizer: Tokenizer | None, n: int) -> Iterator[list[str]]:
    """Read the words of the training set; a block begins with the last n - 1 of the one before."""
    block: list[str] = []
    for words in (words for data in folders for words in _words(_texts(data, tokenizer))):
        block += words
        if len(block) >= _BLOCK_WORDS:
            yield block
            block = block[-(n - 1) :]
    yield block


def _words(chunks: Iterable[str | None]) -> Iterator[list[str]]:
    """Cut text in chunks into words; the end of a document, None or no more, is an empty word.

    A word that the border of two chunks cuts is joined again.
    """
    rest = ""
    for chunk in chunks:
        if chunk is None:
            yield [*words_of(rest), ""]
            rest = ""
            continue
        text = rest + chunk
        end = len(text)
        while end and (text[end - 1].isalnum() or text[end - 1] == "_"):
            end -= 1
        rest = text[end:]
        yield words_of(text[:end])
    yield [*words_of(rest), ""]


def _texts(data: Path, tokenizer: Tokenizer | None) -> Iterator[str | None]:
    if corpus_file(data, "train").is_file():
        for piece in read_corpus_pieces(data, "train"):
            if piece.is_first:
                yield None
            yield piece.text
        return
    if tokenizer is None or not is_store(data / "train"):
        raise UsageError(
            "There is no training set in this folder. A data folder with a corpus, or with tokens "
            "of the tokenizer of the model, is expected.",
            where=data,
        )
    try:
        store = TokenStore.open(data / "train")
    except UserError as error:
        raise UsageError(error.message, where=error.where) from error
    if store.tokenizer_fingerprint != tokenizer.fingerprint:
        raise UsageError(
            "These tokens were made with another tokenizer than that of the model, and there is "
            "no corpus. Data that was encoded with the tokenizer of the run is expected.",
            where=data,
        )
    rest = b""
    for start in range(0, store.n_tokens, _BLOCK_TOKENS):
        ids = store.read(start, min(start + _BLOCK_TOKENS, store.n_tokens)).tolist()
        found = rest + b"".join(map(tokenizer.token_bytes, ids))
        # Up to the last byte that begins a character, which the next block may complete.
        end = len(found)
        while end and len(found) - end < 4 and found[end - 1] & 0xC0 == 0x80:
            end -= 1
        end = max(0, end - 1) if start + _BLOCK_TOKENS < store.n_tokens else len(found)
        yield found[:end].decode("utf-8", errors="replace")
        rest = found[end:]
