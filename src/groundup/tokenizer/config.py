"""The settings of `train-tokenizer` and `tokens`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TrainTokenizerConfig:
    """Which tokenizer to train, and on what."""

    data: Path = Path("data")
    """Data folder written by `groundup prepare`."""
    kind: Literal["bpe", "characters"] = "bpe"
    """Tokenizer type: byte-level BPE, or one id per character of the text."""
    vocab_size: int = 1024
    """Maximum vocabulary size of BPE: 256 bytes, the merges and four special tokens."""
    pattern: str = "gpt4"
    """Pre-tokenizer pattern of BPE: gpt2, gpt4 or a regular expression of the regex package."""


@dataclass(frozen=True, kw_only=True)
class TokensConfig:
    """Which text to show as tokens of which tokenizer."""

    data: Path = Path("data")
    """Tokenizer folder, or a data or run folder that contains one."""
    text: str = "I HAD always thought Jack Gisburn rather a cheap genius"
    """Text to tokenize."""
    most: int = 40
    """Maximum number of tokens in the table."""
