"""The job `train-tokenizer`: learn a tokenizer on the training side, weigh it on the other."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from groundup.text.corpus import read_corpus
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.train_bpe import train_bpe
from groundup.tokenizer.words import WordTokenizer


@dataclass(frozen=True, kw_only=True)
class TrainTokenizerConfig:
    """What to learn from, and how much."""

    data: Path = Path("data")
    """A data folder made by `groundup prepare`."""
    kind: Literal["bpe", "characters"] = "bpe"
    """Byte-level BPE, or one id for each character of the whole text."""
    vocab_size: int = 1024
    """How many ids BPE makes at most: 256 bytes, the merges, four special tokens."""
    pattern: str = "gpt4"
    """How text is cut into pretokens: gpt2, gpt4 or a pattern of the regex package."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One tokenizer of the ladder, weighed on the held-out text."""

    name: str
    vocab_size: int
    bytes_per_token: float
    unknown_frac: float


@dataclass(frozen=True, kw_only=True)
class TokenizerReport:
    """What was learnt."""

    folder: Path
    vocab_size: int
    elapsed_s: float
    first_merges: list[str]
    longest_tokens: list[str]
    rungs: list[Rung]
    line: str
    line_tokens: list[dict[str, int | str]]


def train_tokenizer(config: TrainTokenizerConfig) -> TokenizerReport:
    """Learn a tokenizer from DATA/corpus/train, save it as DATA/tokenizer, compare the ladder.

    Characters are taken from the held-out text, too: one that has no id could not be encoded.

    Raises:
        UserError: There is no corpus, or the vocabulary is too small.
    """
    started_at = time.perf_counter()
    held_out = "\n".join(document.text for document in read_corpus(config.data, "validation"))
    training = (document.text for document in read_corpus(config.data, "train"))
    tokenizer: BPETokenizer | CharacterTokenizer
    if config.kind == "characters":
        tokenizer = CharacterTokenizer.from_text("".join(set(held_out).union(*training)))
    else:
        tokenizer = train_bpe(training, config.vocab_size, pattern=config.pattern)
    elapsed_s = time.perf_counter() - started_at
    folder = config.data / "tokenizer"
    tokenizer.save(folder)
    merged = (
        [tokenizer.decode([256 + i]) for i in range(len(tokenizer.merges))]
        if isinstance(tokenizer, BPETokenizer)
        else []
    )
    line = _first_line(held_out)
    return TokenizerReport(
        folder=folder,
        vocab_size=tokenizer.vocab_size,
        elapsed_s=elapsed_s,
        first_merges=merged[:12],
        longest_tokens=sorted((w for w in merged if w.strip().isalpha()), key=len, reverse=True)[
            :8
        ],
        rungs=_ladder(tokenizer, config.data, held_out),
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


def _ladder(tokenizer: BPETokenizer | CharacterTokenizer, data: Path, held_out: str) -> list[Rung]:
    train = "\n".join(document.text for document in read_corpus(data, "train"))
    n_bytes = max(1, len(held_out.encode("utf-8")))
    characters = CharacterTokenizer.from_text(train)
    words = WordTokenizer.from_text(train)
    word_ids = words.encode(held_out)
    known = set(characters.characters)
    n_unknown = sum(character not in known for character in held_out)
    n_unknown_words = sum(index == words.unknown_id for index in word_ids)
    rungs = [
        Rung(
            name="characters",
            vocab_size=characters.vocab_size,
            bytes_per_token=n_bytes / max(1, len(held_out)),
            unknown_frac=n_unknown / max(1, len(held_out)),
        ),
        Rung(
            name="words",
            vocab_size=words.vocab_size,
            bytes_per_token=n_bytes / max(1, len(word_ids)),
            unknown_frac=n_unknown_words / max(1, len(word_ids)),
        ),
    ]
    if isinstance(tokenizer, BPETokenizer):
        rungs.append(
            Rung(
                name="byte-level BPE",
                vocab_size=tokenizer.vocab_size,
                bytes_per_token=n_bytes / max(1, len(tokenizer.encode(held_out))),
                unknown_frac=0.0,
            )
        )
    return rungs


def _first_line(text: str) -> str:
    """Give the first line of prose: long enough to show words."""
    for line in text.splitlines():
        if len(line.split()) >= 8:
            return line.strip()[:200]
    return text.strip()[:200]
