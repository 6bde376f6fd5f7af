"""The settings of `train-tokenizer` and `tokens`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from groundup.base.fields import Config
from groundup.base.kinds import Count, FreeText

Ties = Literal["lowest-id", "greatest-bytes"]


@dataclass(frozen=True, kw_only=True)
class TrainTokenizerConfig(Config):
    """Which tokenizer to train, and on what."""

    data: Path = Path("data")
    """Data folder written by `groundup prepare`."""
    kind: Literal["bpe", "characters"] = "bpe"
    """Tokenizer type: byte-level BPE, or one id per character of the text."""
    vocab_size: Count = 1024
    """Maximum vocabulary size of BPE: 256 bytes, the merges and four special tokens."""
    pattern: str = "gpt4"
    """Pre-tokenizer pattern of BPE: gpt2, gpt4 or a regular expression of the regex package."""
    ties: Ties = "lowest-id"
    """Equally frequent pair that BPE merges first: as Hugging Face's tokenizers, or as CS336."""
    overwrite: bool = False
    """Replace what the folder contains already."""


@dataclass(frozen=True, kw_only=True)
class TokensConfig(Config):
    """Which text to show as tokens of which tokenizer."""

    data: Path = Path("data")
    """Tokenizer folder, or a data or run folder that contains one."""
    text: FreeText = None
    """Text to tokenize. None: a line of the validation set."""
    most: Count = 40
    """Maximum number of tokens in the table."""
