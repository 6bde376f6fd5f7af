"""`train-tokenizer`: train a tokenizer on the training set and compare it on the validation set.

The comparison reads a beginning of both sets only, so that it takes a second at most.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from groundup.base.calling import takes_settings
from groundup.base.undo import undo_interrupted
from groundup.text.corpus import read_chunks, read_corpus, read_corpus_pieces
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.config import TrainTokenizerConfig
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.pretokens import PATTERNS
from groundup.tokenizer.replacing import check_training, record_training, refused
from groundup.tokenizer.save import describe_split
from groundup.tokenizer.train_bpe import number_of_merges, train_bpe
from groundup.tokenizer.words import WordTokenizer, split_words

_N_FIRST_MERGES, _N_LONGEST = 12, 8
_MEASURED_CHARACTERS = 2**20
"""How much of the validation set the tokenizer types are measured on, at most."""
_KNOWN_CHARACTERS = 2**22
"""How much of the training set they take their characters and words from, at most."""


@dataclass(frozen=True, kw_only=True)
class ComparedTokenizer:
    """One tokenizer type, measured on the first million characters of the validation set."""

    name: str
    vocab_size: int
    bytes_per_token: float
    unknown_frac: float
    """Fraction of tokens that do not occur in the first 4 million characters of the training set;
    0 for byte-level BPE, which knows every byte."""


@dataclass(frozen=True, kw_only=True)
class TrainTokenizerResult:
    """The tokenizer that was trained, and how it compares."""

    folder: Path
    vocab_size: int
    elapsed_s: float
    first_merges: list[str]
    longest_tokens: list[str]
    rungs: list[ComparedTokenizer]
    """The tokenizer types, from characters to byte-level BPE."""
    line: str
    """A line of the validation set."""
    line_tokens: list[dict[str, int | str]]


@takes_settings(TrainTokenizerConfig, "data")
def train_tokenizer(config: TrainTokenizerConfig) -> TrainTokenizerResult:
    """Train a tokenizer on DATA/corpus and save it as DATA/tokenizer.

    A character tokenizer also takes the characters of the validation set: a character without an
    id could not be encoded. A tokenizer with other settings, or one that a run was trained with,
    is replaced only with `overwrite`.

    Raises:
        UserError: There is no corpus, the vocabulary is too small, the pattern cannot be used, or
            there is another tokenizer.
    """
    started_at = time.perf_counter()
    if config.kind == "bpe":
        number_of_merges(config.vocab_size)  # refuse it before anything else is asked
    undo_interrupted(config.data)
    must_be = check_training(config)
    tokenizer: BPETokenizer | CharacterTokenizer
    if config.kind == "characters":
        known: set[str] = set()
        for chunk in read_chunks(config.data, "validation"):
            known.update(chunk)
        for piece in read_corpus_pieces(config.data, "train"):
            known.update(piece.text)
        tokenizer = CharacterTokenizer.from_text("".join(known))
    else:
        describe_split(config.pattern)  # what cannot be saved is not trained
        training = _texts_to_train_on(config)
        tokenizer = train_bpe(training, config.vocab_size, pattern=config.pattern, ties=config.ties)
    elapsed_s = time.perf_counter() - started_at
    folder = config.data / "tokenizer"
    if must_be is not None and tokenizer.fingerprint != must_be:
        raise refused(config, load_tokenizer(folder))
    tokenizer.save(folder)
    record_training(config)
    merged = (
        [tokenizer.decode([256 + i]) for i in range(len(tokenizer.merges))]
        if isinstance(tokenizer, BPETokenizer)
        else []
    )
    words = sorted((token for token in merged if token.strip().isalpha()), key=len, reverse=True)
    line = _first_line("".join(_beginning(config.data, "validation", _MEASURED_CHARACTERS)))
    return TrainTokenizerResult(
        folder=folder,
        vocab_size=tokenizer.vocab_size,
        elapsed_s=elapsed_s,
        first_merges=merged[:_N_FIRST_MERGES],
        longest_tokens=words[:_N_LONGEST],
        rungs=_compare(tokenizer, config.data),
        line=line,
        line_tokens=[
            {
                "id": index,
                "text": tokenizer.decode([index]),
                "bytes": tokenizer.token_bytes(index).hex(" "),
            }
            for index in tokenizer.encode(line)
        ],
    )


def _texts_to_train_on(config: TrainTokenizerConfig) -> Iterator[str]:
    """Read the training set: in pieces where their edges change no pretoken."""
    if PATTERNS.get(config.pattern, config.pattern) in PATTERNS.values():
        return (piece.text for piece in read_corpus_pieces(config.data, "train"))
    return (document.text for document in read_corpus(config.data, "train"))


def _beginning(data: Path, side: str, n_characters: int) -> Iterator[str]:
    """Read the first characters of one side in chunks."""
    for chunk in read_chunks(data, side):
        yield chunk[:n_characters]
        n_characters -= len(chunk)
        if n_characters <= 0:
            return


def _compare(tokenizer: BPETokenizer | CharacterTokenizer, data: Path) -> list[ComparedTokenizer]:
    known: set[str] = set()
    known_words: set[str] = set()
    for chunk in _beginning(data, "train", _KNOWN_CHARACTERS):
        known.update(chunk)
        known_words.update(split_words(chunk))
    characters = CharacterTokenizer.from_text("".join(known))
    words = WordTokenizer.from_text("\n".join(known_words))
    measured = list(_beginning(data, "validation", _MEASURED_CHARACTERS))
    n_bytes = n_characters = n_unknown = n_words = n_unknown_words = 0
    for chunk in measured:
        word_ids = words.encode(chunk)
        n_bytes += len(chunk.encode("utf-8"))
        n_characters += len(chunk)
        n_unknown += sum(character not in known for character in chunk)
        n_words += len(word_ids)
        n_unknown_words += sum(index == words.unknown_id for index in word_ids)
    n_bytes = max(1, n_bytes)
    compared = [
        ComparedTokenizer(
            name="characters",
            vocab_size=characters.vocab_size,
            bytes_per_token=n_bytes / max(1, n_characters),
            unknown_frac=n_unknown / max(1, n_characters),
        ),
        ComparedTokenizer(
            name="words",
            vocab_size=words.vocab_size,
            bytes_per_token=n_bytes / max(1, n_words),
            unknown_frac=n_unknown_words / max(1, n_words),
        ),
    ]
    if isinstance(tokenizer, BPETokenizer):
        n_tokens = sum(1 for _ in tokenizer.encode_iterable(measured))
        compared.append(
            ComparedTokenizer(
                name="byte-level BPE",
                vocab_size=tokenizer.vocab_size,
                bytes_per_token=n_bytes / max(1, n_tokens),
                unknown_frac=0.0,
            )
        )
    return compared


def _first_line(text: str) -> str:
    """Return the first line of at least eight words, or the beginning of the text."""
    for line in text.splitlines():
        if len(line.split()) >= 8:
            return line.strip()[:200]
    return text.strip()[:200]
